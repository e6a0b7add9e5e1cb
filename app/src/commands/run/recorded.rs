//! The recording of the edge, for `run --record`.

/// Waits for what a process has still to write when another one has taken over.
pub(super) type LastWrites = Box<dyn FnOnce() + Send>;

#[cfg(feature = "record")]
mod made {
    use tracing::info;
    use voltlane_core::edge::Edge;
    use voltlane_core::keys::KeyPair;

    use super::LastWrites;
    use crate::config::Settings;
    use crate::entry::ReadAgain;
    use crate::record_file::{RecordFile, RecordFileError};

    /// The file to which the edge is recorded, if it is.
    pub(in crate::commands::run) struct Recorded(Option<RecordFile>);

    impl Recorded {
        /// Creates the file, if there is to be one.
        pub(in crate::commands::run) fn begin(
            again: &ReadAgain,
            settings: &Settings,
            keys: &KeyPair,
        ) -> Result<Recorded, String> {
            let Some(wanted) = &again.args.record else {
                return Ok(Recorded(None));
            };
            let (path, most) = (&wanted.record, wanted.record_bytes);
            let file = match settings.general.key_file {
                None => Err(RecordFileError::NoKeyFile),
                Some(_) => RecordFile::create(path, most, keys),
            };
            let file = file.map_err(|error| error.to_string())?;
            info!(path = %path.display(), bytes = most, "what the edge is told is recorded");
            Ok(Recorded(Some(file)))
        }

        /// Begins to record the machine, which is new.
        pub(in crate::commands::run) fn record(
            &mut self,
            edge: &mut Edge,
            seed: &[u8; 32],
        ) -> Result<(), String> {
            let Some(file) = &mut self.0 else {
                return Ok(());
            };
            let segments = file.segments();
            match file.sink() {
                None => Ok(()),
                Some(sink) => edge
                    .record(seed, segments, sink)
                    .map_err(|error| error.to_string()),
            }
        }

        /// Returns what waits until everything is written, once the machine is recorded no more.
        pub(in crate::commands::run) fn last_writes(&mut self) -> Option<LastWrites> {
            let writes = self.0.as_mut()?.last_writes()?;
            Some(Box::new(writes))
        }

        /// Waits until everything is written, once the machine is gone.
        pub(in crate::commands::run) fn finish(self) {
            if let Some(file) = self.0 {
                file.finish();
            }
        }
    }
}

/// Without recordings.
#[cfg(not(feature = "record"))]
mod made {
    use voltlane_core::edge::Edge;
    use voltlane_core::keys::KeyPair;

    use crate::config::Settings;
    use crate::entry::ReadAgain;

    pub(in crate::commands::run) struct Recorded;

    #[expect(
        clippy::unused_self,
        clippy::unnecessary_wraps,
        reason = "as if there could be one"
    )]
    impl Recorded {
        pub(in crate::commands::run) fn begin(
            _: &ReadAgain,
            _: &Settings,
            _: &KeyPair,
        ) -> Result<Recorded, String> {
            Ok(Recorded)
        }

        pub(in crate::commands::run) fn record(
            &mut self,
            _: &mut Edge,
            _: &[u8; 32],
        ) -> Result<(), String> {
            Ok(())
        }

        pub(in crate::commands::run) fn last_writes(&mut self) -> Option<super::LastWrites> {
            None
        }

        pub(in crate::commands::run) fn finish(self) {}
    }
}

pub(super) use made::Recorded;
