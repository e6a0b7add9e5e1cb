// The groups of a backend, which are the library's own with a link of version 2.

import { type Bytes, u64 } from "./core/bytes.js";
import type { Group } from "./backend-events.js";
import type { Book, Known } from "./book.js";
import { type ClientId, NoRoom } from "./events.js";
import { Flag } from "./link.js";
import { EVERYONE } from "./tagged.js";

/** Groups that have members, and groups of a client, beside that of everyone. */
export const MAX_GROUPS = 65_535;
export const MAX_GROUPS_OF_CLIENT = 63;

export class Groups {
  private readonly byName = new Map<Group, Set<ClientId>>();
  /** The ids of groups on the link. */
  private readonly tags = new Map<Group, Bytes>();
  private last = 0n;

  /** `tell` tells the edge, if its link has groups. */
  constructor(
    private readonly book: Book,
    private readonly tell: (group: Bytes, flag: number, data?: Bytes) => void,
  ) {}

  members(group: Group): ClientId[] {
    return [...(this.byName.get(group) ?? [])];
  }

  known(group: Group): Known[] {
    return this.members(group).map((id) => this.book.get(id)!);
  }

  /** The id on the link of a group that has members. */
  tag(group: Group): Bytes {
    return this.tags.get(group)!;
  }

  all(): [Bytes, Known[]][] {
    return [...this.byName.keys()].map((group) => [this.tag(group), this.known(group)]);
  }

  /** Makes a client a member. Returns why it cannot be one. */
  add(group: Group, client: Known): NoRoom | undefined {
    if (client.groups?.has(group)) return undefined;
    const groups = (client.groups ??= new Set());
    if (groups.size >= MAX_GROUPS_OF_CLIENT) return new NoRoom(`the client is in ${MAX_GROUPS_OF_CLIENT} groups, and no more are allowed`);
    if (this.byName.size >= MAX_GROUPS && !this.byName.has(group)) return new NoRoom(`${MAX_GROUPS} groups have members, and no more are allowed`);
    groups.add(group);
    const members = this.byName.get(group) ?? new Set();
    this.byName.set(group, members.add(client.id));
    if (!this.tags.has(group)) this.tags.set(group, u64((this.last += 1n)));
    this.tell(this.tag(group), Flag.groupAdd, client.tag);
    return undefined;
  }

  remove(group: Group, client: Known): void {
    if (!client.groups?.delete(group)) return;
    const tag = this.tag(group);
    this.tell(tag, Flag.groupRemove, client.tag);
    if (this.leave(group, client.id)) this.tell(tag, Flag.groupEnd);
  }

  /** The groups on the link in which the edge has a client, with that of everyone. */
  tagsOf({ groups, isShown }: Known): Bytes[] {
    const tags = [...(groups ?? [])].map((group) => this.tag(group));
    return isShown ? [...tags, EVERYONE] : tags;
  }

  /** A client has ended, of which the edge knows itself. */
  forget({ groups, id }: Known): void {
    for (const group of groups ?? []) this.leave(group, id);
  }

  /** Returns whether the group has no members any more. */
  private leave(group: Group, id: ClientId): boolean {
    const members = this.byName.get(group);
    members?.delete(id);
    if (members?.size !== 0) return false;
    this.byName.delete(group);
    this.tags.delete(group);
    return true;
  }
}
