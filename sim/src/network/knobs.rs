//! Faults of single socket calls.

use crate::rng::Rng;

/// Declares the knobs with their names, as the header of a run shows them.
macro_rules! knobs {
    ($($(#[$doc:meta])* $name:ident = $kind:expr, $choices:expr;)*) => {
        /// What single socket calls do to the drivers. Each knob is drawn for a run, and most are off.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct Knobs {
            $($(#[$doc])* pub $name: u64,)*
        }

        impl Knobs {
            /// Returns the knobs with every fault off.
            #[must_use]
            pub fn kind() -> Knobs {
                Knobs { $($name: $kind,)* }
            }

            pub(crate) fn draw(rng: &mut Rng) -> Knobs {
                Knobs { $($name: if rng.chance(50) { rng.pick(&$choices) } else { $kind },)* }
            }
        }

        impl std::fmt::Display for Knobs {
            /// Shows the knobs that are on.
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                $(if self.$name != $kind {
                    write!(f, " {}={}", stringify!($name), self.$name)?;
                })*
                Ok(())
            }
        }
    };
}

knobs! {
    /// Maximum bytes per read.
    read_bytes_max = 65_536, [3, 40, 1_500];
    /// Maximum bytes per write.
    write_bytes_max = 65_536, [3, 40, 1_500];
    /// Bytes that may be in flight on one connection, per direction.
    window_bytes = 1 << 20, [600, 8_192, 65_536];
    /// Percentage of reads that return nothing, for no reason.
    read_pending = 0, [5, 30];
    /// Percentage of writes that take nothing, for no reason.
    write_pending = 0, [5, 30];
    /// Reads, per thousand, that a signal interrupts.
    read_interrupted = 0, [5, 100];
    /// Reads, per hundred thousand, at which the connection breaks.
    read_breaks = 0, [20, 300];
    /// Writes, per hundred thousand, at which the connection breaks.
    write_breaks = 0, [20, 300];
    /// Percentage of closes that fail.
    close_fails = 0, [10, 100];
    /// Percentage of connections that die before they are accepted.
    accept_aborted = 0, [5, 40];
    /// Percentage of accepts that fail for lack of a descriptor.
    accept_exhausted = 0, [5, 40];
    /// Percentage of connects that are refused.
    connect_refused = 0, [5, 40];
    /// Percentage of connects that hang for ever.
    connect_hangs = 0, [5, 20];
}

impl Knobs {
    /// Returns the largest packet worth cutting into such pieces.
    pub(crate) fn packet_bytes_max(self) -> u64 {
        (self.read_bytes_max.min(self.write_bytes_max) * 20).min(3_000)
    }
}
