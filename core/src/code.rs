//! The codes by which a connection, an attempt or a session ends. (SPEC 25.2)

use core::fmt;

/// Why a connection, an attempt or a session ended.
///
/// Its hundreds are its [class](Class), so that a library knows what to do about a code that it does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Code(u16);

image!(Code { 0 });

/// What a client does about a [code](Code).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_enums, reason = "the protocol has no others")]
pub enum Class {
    /// Nothing: it asked for this.
    Done,
    /// It resumes at once.
    ResumeNow,
    /// It resumes after a pause.
    ResumeLater,
    /// The session is over. A new one may begin if the application says so.
    Afresh,
    /// It stops.
    Stop,
}

macro_rules! codes {
    ($($(#[doc = $doc:literal])+ $name:ident = $number:literal, $text:literal;)+) => {
        impl Code {
            $($(#[doc = $doc])+ pub const $name: Code = Code($number);)+

            /// Returns every code of the protocol, in order.
            pub const ALL: &[Code] = &[$(Code::$name),+];

            /// Returns its name in SPEC.txt, or the name of its class for one of an application or of a later edge.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self.0 {
                    $($number => $text,)+
                    490 => "another edge key",
                    491 => "conflict",
                    _ => match self.class() {
                        Class::Done => "done",
                        Class::ResumeNow => "resume now",
                        Class::ResumeLater => "resume later",
                        Class::Afresh => "start afresh",
                        Class::Stop => "stop",
                    },
                }
            }
        }
    };
}

codes! {
    /// The client said goodbye. In an Answer: the session was taken up.
    GOODBYE = 0, "goodbye";
    /// The edge asks the client to leave.
    GOING_AWAY = 101, "going away";
    /// The edge restarts.
    RESTART = 104, "edge restarts";
    /// The client took nothing for too long. The session is away, and nothing is lost.
    PARKED = 201, "parked";
    /// The edge has no backend.
    BACKEND_DOWN = 202, "backend down";
    /// The source connects too fast.
    TOO_FAST = 203, "source too fast";
    /// The edge has no room for this now.
    BUSY = 204, "busy";
    /// Another backend of its edge has the session, or another edge.
    ELSEWHERE = 205, "elsewhere";
    /// This edge never had the session, as far as it can tell.
    NOT_HERE = 206, "not here";
    /// The session is gone.
    GONE = 301, "gone";
    /// The session was away for too long.
    EXPIRED = 302, "expired";
    /// A packet down found no room.
    RING_FULL = 303, "ring full";
    /// The session ended with the client's goodbye.
    SAID_GOODBYE = 304, "said goodbye";
    /// One side has numbered more packets than the other can know of.
    NUMBERS = 305, "numbers do not fit";
    /// The edge needs memory.
    MEMORY = 306, "memory limit";
    /// Too many sessions are away.
    TOO_MANY_AWAY = 307, "too many away";
    /// The counter is not above the highest.
    STALE = 310, "stale";
    /// The counter is too far above the highest.
    AHEAD = 311, "ahead";
    /// Another life of the client was accepted. Reserved.
    ANOTHER_LIFE = 312, "another life";
    /// The backend ended the session.
    KICKED = 401, "kicked";
    /// A later attempt took the session over.
    TAKEN_OVER = 402, "taken over";
    /// The peer broke the protocol.
    PROTOCOL = 403, "protocol error";
    /// A packet is longer than the receiver takes.
    TOO_LONG = 404, "packet too long";
    /// The backend refuses the token.
    TOKEN = 405, "token refused";
    /// The version is not served.
    VERSION = 406, "version";
}

impl Code {
    /// The code in an Answer by which a session is taken up.
    pub const TAKEN_UP: Code = Code::GOODBYE;
    /// The code in an Answer that asks for a confirmation first. Reserved.
    pub const COLD: Code = Code(1);

    /// The edge has another key than the client expects. It is a client's own, and not sent by anybody.
    pub const OTHER_EDGE: Code = Code(490);
    /// Somebody else has resumed the client's session. It is a client's own, and not sent by anybody.
    pub const CONFLICT: Code = Code(491);

    /// Returns the code with this number: 0, 1, or 100 to 699.
    #[must_use]
    pub const fn from_u16(number: u16) -> Option<Code> {
        match number {
            0 | 1 | 100..=699 => Some(Code(number)),
            _ => None,
        }
    }

    /// Returns its number on the wire.
    #[must_use]
    pub const fn to_u16(self) -> u16 {
        self.0
    }

    /// Returns what a client does about it.
    #[must_use]
    pub const fn class(self) -> Class {
        match self.0 {
            ..100 => Class::Done,
            100..200 => Class::ResumeNow,
            200..300 => Class::ResumeLater,
            300..400 | 500..600 => Class::Afresh,
            _ => Class::Stop,
        }
    }

    /// Returns whether an application chose it: 500 to 699.
    #[must_use]
    pub const fn is_of_application(self) -> bool {
        self.0 >= 500
    }

    /// Returns whether a client may close with it (SPEC 25.4(b)).
    #[must_use]
    pub const fn is_of_client(self) -> bool {
        matches!(self.0, 0 | 403 | 404)
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.0, self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_known_by_its_number_and_its_class_by_the_hundreds() {
        for number in 0..=u16::MAX {
            let code = Code::from_u16(number);
            assert_eq!(code.map(Code::to_u16), code.map(|_| number));
            let class = match number {
                0 | 1 => Some(Class::Done),
                100..=199 => Some(Class::ResumeNow),
                200..=299 => Some(Class::ResumeLater),
                300..=399 | 500..=599 => Some(Class::Afresh),
                400..=499 | 600..=699 => Some(Class::Stop),
                _ => None,
            };
            assert_eq!(code.map(Code::class), class, "{number}");
            assert_eq!(
                code.is_some_and(Code::is_of_application),
                (500..700).contains(&number)
            );
        }
    }

    #[test]
    fn every_code_has_a_name_of_its_own() {
        let mut names: Vec<_> = Code::ALL.iter().map(|code| code.name()).collect();
        assert!(Code::ALL.is_sorted());
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Code::ALL.len());
        assert_eq!(Code(401).to_string(), "401 kicked");
        assert_eq!(Code(650).to_string(), "650 stop");
    }

    #[test]
    fn a_client_closes_for_three_reasons_only() {
        let of_client = Code::ALL.iter().filter(|code| code.is_of_client());
        assert!(of_client.eq(&[Code::GOODBYE, Code::PROTOCOL, Code::TOO_LONG]));
    }
}
