//! Layers that another process goes on with (SPEC 41.1(c)).

use std::sync::Arc;
use std::time::Duration;

use super::{Layers, Life, Pings, Plain};
use crate::saved::{Fields, put_bytes};
use crate::websocket::layer::WsLayer;

impl Layers {
    /// Returns whether another process can go on with them: WebSocket of a server, open in both directions, and nothing else.
    pub(crate) fn are_movable(&self) -> bool {
        #[cfg(feature = "tls")]
        if self.tls.is_some() {
            // The state of a connection of TLS cannot be had.
            return false;
        }
        #[cfg(feature = "proxy")]
        if self.header.is_some() {
            return false;
        }
        let ended = self.end.is_some() || self.is_closing || self.write_failed.is_some();
        !ended && self.ws.as_ref().is_some_and(WsLayer::is_movable)
    }

    /// Appends all that another process needs to go on with them, if they are movable.
    pub(crate) fn save(&self, out: &mut Vec<u8>) {
        let Some(ws) = &self.ws else {
            return;
        };
        out.push(match self.introduces {
            None => 0,
            Some(false) => 1,
            Some(true) => 2,
        });
        let (every, within) = match self.pings.as_deref() {
            Some(pings) => (pings.every, pings.within),
            None => (Duration::ZERO, Duration::ZERO),
        };
        for time in [every, within] {
            out.extend_from_slice(&time.as_secs().to_le_bytes());
        }
        let plain = self.plain.as_ref();
        put_bytes(out, plain.map_or(&[], |plain| &plain.bytes[plain.taken..]));
        put_bytes(out, &self.out[self.out_sent..]);
        ws.save(out);
    }

    /// Creates the layers that were saved. What is known of the peer's silence begins anew. `None` if these bytes are none that is written.
    pub(crate) fn load(saved: &[u8]) -> Option<Layers> {
        let saved = &mut Fields(saved);
        let introduces = match saved.u8()? {
            0 => None,
            1 => Some(false),
            2 => Some(true),
            _ => return None,
        };
        let (every, within) = (saved.u64()?, saved.u64()?);
        let pings = Pings {
            every: Duration::from_secs(every),
            within: Duration::from_secs(within),
        };
        let (plain, out) = (saved.bytes()?, saved.bytes()?);
        let plain = Plain {
            bytes: plain.to_vec(),
            taken: 0,
        };
        Some(Layers {
            introduces,
            pings: (every > 0).then(|| Arc::new(pings)),
            plain: (!plain.bytes.is_empty()).then(|| Box::new(plain)),
            out: out.to_vec(),
            ws: Some(WsLayer::load(saved.0)?),
            has_received: true,
            life: Life::Heard,
            ..Layers::default()
        })
    }
}
