//! The configuration: `connserver.toml`, `.env`, environment and command line, made into [`Settings`].
//!
//! The table of every key is in `keys.rs`, and everything else is derived from it. [`Loaded::from_sources`] is pure; [`load`] reads the
//! disk and the environment for it. Both report every fault at once, with its place.

mod address;
mod certificates;
mod change;
#[cfg(feature = "cluster")]
mod cluster;
mod contradictions;
mod document;
mod edge;
mod files;
mod keys;
pub(crate) mod link_secret;
mod link_tls;
mod listeners;
mod load;
mod metrics_address;
mod networks;
#[cfg(feature = "admin")]
mod origins;
mod place;
mod problem;
mod render;
mod report;
mod retired;
mod schema;
mod suggest;
mod value;
mod variables;
mod web;
mod worst_case;

pub use address::{Address, AddressError};
pub use certificates::{
    CertificateList, MAX_CERTIFICATE_NAMES, MAX_CERTIFICATES, NamedCertificate,
};
pub use change::Change;
#[cfg(feature = "cluster")]
pub use cluster::{ClusterName, EngineKind, EngineServers};
pub use files::{DEFAULT_FILE, Note, WhenMissing, load};
#[cfg(feature = "cluster")]
pub use keys::Cluster;
pub use keys::{
    Admin, Clients, General, Key, Limits, Listener, Master, Metrics, SECTIONS, Section, Settings,
    VARIABLE_PREFIX, keys,
};
pub use link_tls::{PinList, ServerName};
pub use listeners::{ListenerName, MAX_LISTENERS};
pub use load::{Argument, Loaded, Sources};
pub use metrics_address::MetricsAddress;
pub use networks::Networks;
#[cfg(feature = "admin")]
pub(crate) use networks::network as parse_network;
#[cfg(feature = "admin")]
pub(crate) use origins::Origins;
#[cfg(feature = "backends")]
pub use place::PlaceList;
pub use place::{FileMode, Place, UserIds};
pub use problem::{Fault, Origin, Problem, Problems};
pub use render::{default_file, markdown_table};
pub use report::Report;
#[cfg(feature = "admin")]
pub(crate) use report::values_in_effect;
pub use schema::json_schema;
pub use value::{
    Announce, ClientAuth, Enforce, Forwarded, LinkProtocol, LogFormat, LogLevel, MinVersion,
    ProxyProtocol, Sni, Transport,
};
pub use web::{OriginList, UrlPath};
pub use worst_case::WorstCase;
