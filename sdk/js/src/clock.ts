// Time in ms that never goes back, and in which the machine's sleep counts (SPEC 23.4(h)).

/** The monotonic clock of some systems stands still while they sleep. That of the calendar does not. */
const LEAST_SLEEP_MS = 2_000;

export class Clock {
  private slept = 0;
  private behind = Date.now() - performance.now();

  now(): number {
    const behind = Date.now() - performance.now();
    // A calendar that is set forward counts as sleep, one that is set back does not.
    if (behind - this.behind > LEAST_SLEEP_MS) this.slept += behind - this.behind;
    if (Math.abs(behind - this.behind) > LEAST_SLEEP_MS) this.behind = behind;
    return performance.now() + this.slept;
  }
}
