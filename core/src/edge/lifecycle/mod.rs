//! The life of connections and sessions. Only here do the parts of the edge act on each other.

pub(crate) mod admission;
pub(crate) mod alarm;
pub(crate) mod attempt;
pub(crate) mod boot;
pub(crate) mod deliver;
pub(crate) mod ending;
pub(crate) mod forward;
pub(crate) mod groups;
pub(crate) mod handover;
pub(crate) mod last_words;
pub(crate) mod line;
pub(crate) mod linked;
pub(crate) mod notices;
pub(crate) mod numbered;
pub(crate) mod opening;
pub(crate) mod operator;
pub(crate) mod orders;
pub(crate) mod pressure;
pub(crate) mod reads;
pub(crate) mod reconfigure;
pub(crate) mod resume;
pub(crate) mod settled;
pub(crate) mod timeouts;
pub(crate) mod transport;
pub(crate) mod welcome;
pub(crate) mod write;
