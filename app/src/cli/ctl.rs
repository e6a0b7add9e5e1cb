//! The options of `ctl` and `top`.

use clap::{Args, Subcommand};

use super::ConfigArgs;

/// The configuration of the edge to call, and the call.
#[derive(Args, Clone, Debug, PartialEq, Eq)]
pub struct CtlArgs {
    /// The configuration.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Print the answer as JSON
    #[arg(long, global = true)]
    pub json: bool,
    /// The call.
    #[command(subcommand)]
    pub call: CtlCall,
}

/// A call of the admin interface.
#[derive(Subcommand, Clone, Debug, PartialEq, Eq)]
pub enum CtlCall {
    /// Show totals, and whether it is ready
    Status,
    /// Show the configuration in effect
    Config,
    /// List sessions
    Sessions {
        /// Only those that are attached, or away
        #[arg(long, value_name = "STATE", value_parser = ["attached", "away"])]
        state: Option<String>,
        /// Only those of a network
        #[arg(long, value_name = "NETWORK")]
        source: Option<String>,
        /// Only those of the listener with this name
        #[arg(long, value_name = "NAME")]
        listener: Option<String>,
        /// The first ones in this order, the largest first, in place of a page
        #[arg(long, value_name = "BY", conflicts_with = "after")]
        #[arg(value_parser = ["queue", "backlog", "resumes", "age", "away"])]
        sort: Option<String>,
        /// How many, at most 1000
        #[arg(long, value_name = "N", default_value_t = 100)]
        limit: u32,
        /// Go on behind another page
        #[arg(long, value_name = "NEXT")]
        after: Option<String>,
    },
    /// Show one session
    Session {
        /// Its id: 16 hexadecimal digits
        #[arg(value_name = "ID")]
        id: String,
    },
    /// End a session, or those of a network or of a listener
    Kick {
        /// Its id: 16 hexadecimal digits
        #[arg(value_name = "ID", required_unless_present_any = ["source", "listener"])]
        id: Option<String>,
        /// All of a network or an address. Those of a network in limits.exempt have no source
        #[arg(long, value_name = "NETWORK", conflicts_with = "id")]
        source: Option<String>,
        /// All of the listener with this name that are attached
        #[arg(long, value_name = "NAME", conflicts_with = "id")]
        listener: Option<String>,
        /// The code that its client is told: 401, 405 or 500 to 699
        #[arg(long, value_name = "CODE", default_value_t = 401)]
        code: u16,
        /// How long its client is to wait
        #[arg(long, value_name = "MS", default_value_t = 0)]
        wait_ms: u32,
        /// The words that its client is told
        #[arg(long, value_name = "TEXT", default_value = "")]
        text: String,
    },
    /// List banned networks
    Bans {
        /// Go on behind the last network of another page
        #[arg(long, value_name = "NETWORK")]
        after: Option<String>,
    },
    /// Accept no more connections from a network
    Ban {
        /// The network, or one address
        #[arg(value_name = "NETWORK")]
        network: String,
        /// For how long [default: until it is lifted]
        #[arg(long, value_name = "N")]
        secs: Option<u64>,
        /// Words for people
        #[arg(long, value_name = "TEXT", default_value = "")]
        note: String,
        /// Also if this machine or the caller is in it
        #[arg(long)]
        force: bool,
    },
    /// Lift the ban of a network
    Unban {
        /// The network, as in the list
        #[arg(value_name = "NETWORK")]
        network: String,
    },
    /// Begin no more sessions, and ask clients of version 3 to leave
    Drain {
        /// Within how many seconds they are to leave; 0: they are not asked
        #[arg(long, value_name = "N", default_value_t = 20)]
        spread_secs: u64,
        /// Undo it
        #[arg(long, conflicts_with = "spread_secs")]
        undo: bool,
        /// Only at this one of several backends, whose number is in the status: nobody is asked to leave
        #[cfg(feature = "backends")]
        #[arg(long, value_name = "N", conflicts_with = "spread_secs")]
        backend: Option<u8>,
        /// Its sessions go to the other backends, each where the backend acknowledged the last of it; with --undo: no more do
        #[cfg(feature = "backends")]
        #[arg(long = "move", requires = "backend")]
        moves: bool,
    },
    /// Have the configuration read again, as SIGHUP does
    Reload,
    /// Change the level of the log for a while
    Log {
        /// The level
        #[arg(value_name = "LEVEL", ignore_case = true)]
        #[arg(value_parser = ["off", "error", "warn", "info", "debug", "trace"])]
        level: String,
        /// For how long, at most an hour
        #[arg(long, value_name = "N", default_value_t = 300)]
        secs: u64,
    },
    /// Show the status each second, on a line
    Tail {
        /// End after this many seconds
        #[arg(long, value_name = "N")]
        secs: Option<u32>,
    },
}

/// The configuration of the edge to show.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
pub struct TopArgs {
    /// The configuration.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Show it once
    #[arg(long)]
    pub once: bool,
}
