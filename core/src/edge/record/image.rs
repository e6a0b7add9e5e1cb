//! The image of a machine, with which a segment of a recording begins (SPEC 42.5(b)).

use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng as _;
use zeroize::Zeroizing;

use crate::edge::Edge;
use crate::edge::config::EdgeConfig;
#[cfg(feature = "testkit")]
use crate::edge::counters::Counters;
#[cfg(feature = "backends")]
use crate::edge::lifecycle::departing::Departures;
use crate::edge::record::call::{Fields, put_config};
use crate::image::{Image, Out, Taken};
use crate::protocol::Offer;

/// The version that makes images. Another one may have other fields.
const VERSION: &str = env!("CARGO_PKG_VERSION");

impl Image for EdgeConfig {
    fn put(&self, out: &mut Out) {
        let mut bytes = Zeroizing::new(Vec::new());
        put_config(&mut bytes, self);
        bytes.put(out);
    }

    fn take(from: &mut Taken<'_>) -> Option<Self> {
        let bytes = Zeroizing::new(Vec::<u8>::take(from)?);
        Some(Fields::new(&bytes).config()?.into_owned())
    }
}

#[cfg(feature = "testkit")]
impl Edge {
    /// Returns what distinguishes this machine from others of its kind, for a model checker: its image without its randomness and its
    /// counters.
    #[must_use]
    pub fn likeness(&self) -> Vec<u8> {
        let mut copy = self.fork();
        copy.rng = ChaCha20Rng::from_seed([0; 32]);
        copy.counters = Counters::default();
        let image = copy.image(usize::MAX).expect("it has no bound");
        image.to_vec()
    }
}

impl Image for ChaCha20Rng {
    fn put(&self, out: &mut Out) {
        Zeroizing::new(self.get_seed()).put(out);
        self.get_stream().put(out);
        self.get_word_pos().put(out);
    }

    fn take(from: &mut Taken<'_>) -> Option<Self> {
        let seed: Zeroizing<[u8; 32]> = Image::take(from)?;
        let mut rng = ChaCha20Rng::from_seed(*seed);
        rng.set_stream(Image::take(from)?);
        rng.set_word_pos(Image::take(from)?);
        Some(rng)
    }
}

/// Names the fields of a machine that have an image, in its order.
macro_rules! machine {
    ($keys:ident, $($field:ident),* $(,)?) => {
        impl Edge {
            /// Returns the image of this machine, if it has at most this many bytes.
            pub(super) fn image(&self, most: usize) -> Option<Zeroizing<Vec<u8>>> {
                // Nothing is forgotten: there is no `..`.
                let Edge {
                    offer: _,
                    recorder: _,
                    #[cfg(feature = "upgrade")]
                    moved_link,
                    #[cfg(feature = "cluster")]
                    moves,
                    // An edge of several backends is not recorded.
                    #[cfg(feature = "backends")]
                    departures: _,
                    $keys,
                    $($field),*
                } = self;
                let mut out = Out::new(most);
                VERSION.to_owned().put(&mut out);
                $keys.put(&mut out);
                $($field.put(&mut out);)*
                // It is there before the first link alone, in a process that takes over.
                #[cfg(feature = "upgrade")]
                moved_link.put(&mut out);
                #[cfg(not(feature = "upgrade"))]
                None::<u8>.put(&mut out);
                #[cfg(feature = "cluster")]
                moves.put(&mut out);
                out.finish()
            }

            /// Makes a machine that goes on where that of the image was. `None`: this version does not write such an image.
            pub(super) fn of_image(image: &[u8]) -> Option<Edge> {
                let from = &mut Taken::new(image);
                if String::take(from)? != VERSION {
                    return None;
                }
                let $keys = Image::take(from)?;
                $(let $field = Image::take(from)?;)*
                #[cfg(feature = "upgrade")]
                let moved_link = Image::take(from)?;
                #[cfg(not(feature = "upgrade"))]
                let _: Option<u8> = Image::take(from)?;
                #[cfg(feature = "cluster")]
                let moves = Image::take(from)?;
                let edge = Edge {
                    offer: Offer::new(&$keys),
                    recorder: None,
                    #[cfg(feature = "upgrade")]
                    moved_link,
                    #[cfg(feature = "cluster")]
                    moves,
                    #[cfg(feature = "backends")]
                    departures: Departures::default(),
                    $keys,
                    $($field),*
                };
                from.is_empty().then_some(edge)
            }
        }
    };
}
machine! {
    keys, config, run, earlier_runs, term, rng, ids, kept_ids, takes_strays, saves, mint, decoy, now, conns, sessions, sources, shares, storm,
    join_pace, ends, alarms, account, uplink, link_queue, line, spare, answers, groups, counted_twice, settling, is_draining, shutdown_at,
    counters,
}
