//! How unkind single calls of sockets are.

use crate::rng::Rng;

/// Declares the knobs with their names, as the header of a run shows them.
macro_rules! knobs {
    ($($(#[$doc:meta])* $name:ident = $kind:expr, $choices:expr;)*) => {
        /// What single calls of sockets do to the drivers; each is drawn for a run, most are off.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct Knobs {
            $($(#[$doc])* pub $name: u64,)*
        }

        impl Knobs {
            /// Every knob at its kindest value.
            #[must_use]
            pub fn kind() -> Knobs {
                Knobs { $($name: $kind,)* }
            }

            pub(crate) fn draw(rng: &mut Rng) -> Knobs {
                Knobs { $($name: if rng.chance(50) { rng.pick(&$choices) } else { $kind },)* }
            }
        }

        impl std::fmt::Display for Knobs {
            /// Those that are not at their kindest.
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
    /// Most bytes of one read.
    read_bytes_max = 65_536, [3, 40, 1_500];
    /// Most bytes of one write.
    write_bytes_max = 65_536, [3, 40, 1_500];
    /// Bytes that may be under way on one connection, in one direction.
    window_bytes = 1 << 20, [600, 8_192, 65_536];
    /// In how many of a hundred reads nothing is given, for no reason.
    read_pending = 0, [5, 30];
    /// In how many of a hundred writes nothing is taken, for no reason.
    write_pending = 0, [5, 30];
    /// In how many of a thousand reads a signal comes first.
    read_interrupted = 0, [5, 100];
    /// In how many of a hundred thousand reads the connection breaks.
    read_breaks = 0, [20, 300];
    /// In how many of a hundred thousand writes the connection breaks.
    write_breaks = 0, [20, 300];
    /// In how many of a hundred cases closing fails.
    close_fails = 0, [10, 100];
    /// In how many of a hundred cases a connection dies before it is accepted.
    accept_aborted = 0, [5, 40];
    /// In how many of a hundred cases there is no descriptor for a connection.
    accept_exhausted = 0, [5, 40];
    /// In how many of a hundred cases nobody is there to connect to.
    connect_refused = 0, [5, 40];
    /// In how many of a hundred cases connecting takes for ever.
    connect_hangs = 0, [5, 20];
}

impl Knobs {
    /// The largest packet that is worth its pieces.
    pub(crate) fn packet_bytes_max(self) -> u64 {
        (self.read_bytes_max.min(self.write_bytes_max) * 20).min(3_000)
    }
}
