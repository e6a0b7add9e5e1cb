//! To whom a backend sends.

use voltlane_core::ClientId;
use voltlane_core::backend::host::{GroupId, MAX_LEFT_OUT};

use crate::result::Fault;
use crate::result::vl_result::VL_TOO_LONG;

/// What a target is.
const ONE: u32 = 1;
const GROUP: u32 = 2;
const EVERYONE: u32 = 3;

/// To whom something is sent. Made by vl_to_client, vl_to_group, vl_to_everyone and vl_without.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct vl_target {
    /// 1 a client, 2 a group, 3 everyone.
    pub kind: u32,
    /// The client, or the number of the group.
    pub id: u64,
    /// Clients that are left out.
    pub without: *const u64,
    /// How many of them, at most 16.
    pub without_len: usize,
}

/// One client.
#[unsafe(no_mangle)]
pub extern "C" fn vl_to_client(id: u64) -> vl_target {
    target(ONE, id)
}

/// The members of a group that has a number. A machine leaves the choice of numbers to the application, but for the greatest one.
#[unsafe(no_mangle)]
pub extern "C" fn vl_to_group_number(group: u64) -> vl_target {
    target(GROUP, group)
}

/// Everyone who is there.
#[unsafe(no_mangle)]
pub extern "C" fn vl_to_everyone() -> vl_target {
    target(EVERYONE, 0)
}

/// Leaves up to 16 clients out of a group or of everyone. The ids are used when something is sent.
#[unsafe(no_mangle)]
pub extern "C" fn vl_without(to: vl_target, ids: *const u64, count: usize) -> vl_target {
    vl_target {
        without: ids,
        without_len: count,
        ..to
    }
}

fn target(kind: u32, id: u64) -> vl_target {
    vl_target {
        kind,
        id,
        without: std::ptr::null(),
        without_len: 0,
    }
}

/// A target, read.
#[derive(Debug)]
pub(crate) enum Aim {
    One(ClientId),
    Many(Option<GroupId>, Vec<ClientId>),
}

impl vl_target {
    /// Returns the group, for a membership.
    pub(crate) fn group(&self) -> Result<GroupId, Fault> {
        match self.kind {
            GROUP => group(self.id),
            _ => Err(Fault::argument("the target is no group")),
        }
    }

    pub(crate) unsafe fn aim(&self) -> Result<Aim, Fault> {
        let group = match self.kind {
            ONE => return Ok(Aim::One(ClientId::from_u64(self.id))),
            GROUP => Some(group(self.id)?),
            EVERYONE => None,
            other => {
                let says =
                    format!("a target of the kind {other}: make it by vl_to_client and its like");
                return Err(Fault::argument(says));
            }
        };
        let count = self.without_len;
        if count > MAX_LEFT_OUT {
            let says = format!("{count} clients are left out, {MAX_LEFT_OUT} allowed");
            return Err(Fault::new(VL_TOO_LONG, says));
        }
        if count > 0 && self.without.is_null() {
            return Err(Fault::argument("the clients to be left out are null"));
        }
        // SAFETY: as the caller says, there are as many ids.
        let ids = (0..count).map(|at| ClientId::from_u64(unsafe { *self.without.add(at) }));
        Ok(Aim::Many(group, ids.collect()))
    }
}

fn group(number: u64) -> Result<GroupId, Fault> {
    match number {
        u64::MAX => Err(Fault::argument(
            "the greatest number is no group: use vl_to_everyone",
        )),
        number => Ok(GroupId(number)),
    }
}
