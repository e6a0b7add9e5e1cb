//! How the calls of the adapter get into a recording, if there is one. (SPEC 42)

/// Tells the recording, if there is one, that the adapter calls (SPEC 42).
#[cfg(feature = "record")]
macro_rules! noted {
    // Those of a packet have methods of their own, which cost less.
    ($edge:expr, $now:expr, PollClient) => {
        if let Some(recorder) = &mut $edge.recorder {
            recorder.polls();
        }
    };
    ($edge:expr, $now:expr, ClientDuty { $conn:ident }) => {
        if $edge.recorder.is_some() {
            $edge.note_duty($conn);
        }
    };
    ($edge:expr, $now:expr, ClientBytes { $conn:ident, $bytes:ident }) => {
        if $edge.recorder.is_some() {
            $edge.note_client_bytes($now, $conn, $bytes);
        }
    };
    ($edge:expr, $now:expr, ClientWritten { $conn:ident, $bytes:ident }) => {
        if $edge.recorder.is_some() {
            $edge.note_client_written($now, $conn, $bytes);
        }
    };
    ($edge:expr, $now:expr, LinkBytes($bytes:ident)) => {
        if $edge.recorder.is_some() {
            $edge.note_link_bytes($now, $bytes);
        }
    };
    ($edge:expr, $now:expr, LinkWritten { $bytes:ident }) => {
        if $edge.recorder.is_some() {
            $edge.note_link_written($now, $bytes);
        }
    };
    ($edge:expr, $now:expr, $call:ident $with:tt) => {
        if $edge.recorder.is_some() {
            $edge.note($now, &$crate::edge::record::Call::$call $with);
        }
    };
    ($edge:expr, $now:expr, $call:ident) => {
        if $edge.recorder.is_some() {
            $edge.note($now, &$crate::edge::record::Call::$call);
        }
    };
}
#[cfg(not(feature = "record"))]
macro_rules! noted {
    ($($call:tt)*) => {};
}

/// Tells the recording what the machine answered, and gives the value.
#[cfg(feature = "record")]
macro_rules! told {
    ($edge:expr, $value:expr, |$name:ident| $answer:expr) => {{
        let $name = $value;
        if let Some(recorder) = &mut $edge.recorder {
            recorder.told($answer);
        }
        $name
    }};
}
#[cfg(not(feature = "record"))]
macro_rules! told {
    ($edge:expr, $value:expr, |$name:ident| $answer:expr) => {
        $value
    };
}
