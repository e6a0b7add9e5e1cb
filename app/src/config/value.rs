//! How one value is read, from TOML or from bare text, and how it is written back.

use std::fmt;
use std::ops::RangeInclusive;
use std::path::PathBuf;

use toml::de::DeValue;

use super::address::Address;

/// A value as it was found, before anything is known about what it should be.
#[derive(Clone, Copy)]
pub(super) enum Raw<'a> {
    /// In the file, with the type that TOML gives it.
    Toml(&'a DeValue<'a>),
    /// In an environment variable or an argument, with no type at all.
    Text(&'a str),
}

/// A type that a key can have.
pub(super) trait Value: Sized {
    /// Narrows the type down for one key: mostly a range.
    type Allowed;

    /// Reads a value. The error says what is wrong with it beyond not being
    /// what [`expected`](Value::expected) says, and may be empty.
    fn read(raw: Raw<'_>, allowed: &Self::Allowed) -> Result<Self, String>;

    /// The values that are allowed, in words that follow "must be". `unit` is "", "of seconds" or "of bytes".
    fn expected(allowed: &Self::Allowed, unit: &str) -> String;

    /// As TOML.
    fn show(&self) -> String;
}

macro_rules! whole_numbers {
    ($($Type:ty),+) => { $(
        impl Value for $Type {
            type Allowed = RangeInclusive<$Type>;

            fn read(raw: Raw<'_>, allowed: &Self::Allowed) -> Result<Self, String> {
                let number = whole_number(raw)?;
                <$Type>::try_from(number).ok().filter(|number| allowed.contains(number)).ok_or_else(String::new)
            }

            fn expected(allowed: &Self::Allowed, unit: &str) -> String {
                let of = if unit.is_empty() { String::new() } else { format!(" {unit}") };
                format!("a whole number{of} from {} to {}", allowed.start(), allowed.end())
            }

            fn show(&self) -> String {
                self.to_string()
            }
        }
    )+ };
}

whole_numbers!(u32, u64);

/// Any whole number, so that one out of range is told from one that is none. What i128 cannot hold is out of every range.
fn whole_number(raw: Raw<'_>) -> Result<i128, String> {
    match raw {
        Raw::Toml(DeValue::Integer(integer)) => {
            i128::from_str_radix(integer.as_str(), integer.radix()).map_err(|_| String::new())
        }
        Raw::Toml(DeValue::String(text)) if text.parse::<i128>().is_ok() => {
            Err("this is in quotes".into())
        }
        Raw::Toml(other) => Err(found(other)),
        Raw::Text(text) => text.parse().map_err(|_| String::new()),
    }
}

impl Value for bool {
    type Allowed = ();

    fn read(raw: Raw<'_>, (): &()) -> Result<Self, String> {
        match raw {
            Raw::Toml(DeValue::Boolean(value)) => Ok(*value),
            Raw::Toml(DeValue::String(text)) if text.parse::<bool>().is_ok() => {
                Err("this is in quotes".into())
            }
            Raw::Toml(other) => Err(found(other)),
            Raw::Text(text) => text.parse().map_err(|_| String::new()),
        }
    }

    fn expected((): &(), _unit: &str) -> String {
        "true or false".into()
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

impl Value for Address {
    /// The lowest port: 0 where one is bound, 1 where one is connected to.
    type Allowed = RangeInclusive<u16>;

    fn read(raw: Raw<'_>, allowed: &Self::Allowed) -> Result<Self, String> {
        let address: Address = text_of(raw)?.parse().map_err(|error| format!("{error}"))?;
        if !allowed.contains(&address.port()) {
            return Err(format!(
                "the port is not from {} to {}",
                allowed.start(),
                allowed.end()
            ));
        }
        Ok(address)
    }

    fn expected(_allowed: &Self::Allowed, _unit: &str) -> String {
        "an address such as \"127.0.0.1:42000\", \"[::1]:42000\" or \"name:42000\"".into()
    }

    fn show(&self) -> String {
        quoted(&self.to_string())
    }
}

/// An address, or nothing when the text is empty.
impl Value for Option<Address> {
    type Allowed = RangeInclusive<u16>;

    fn read(raw: Raw<'_>, allowed: &Self::Allowed) -> Result<Self, String> {
        if text_of(raw)?.is_empty() {
            return Ok(None);
        }
        Address::read(raw, allowed).map(Some)
    }

    fn expected(allowed: &Self::Allowed, unit: &str) -> String {
        format!("{}, or \"\"", Address::expected(allowed, unit))
    }

    fn show(&self) -> String {
        self.as_ref().map_or_else(|| quoted(""), Value::show)
    }
}

/// A path, or nothing when the text is empty.
impl Value for Option<PathBuf> {
    type Allowed = ();

    fn read(raw: Raw<'_>, (): &()) -> Result<Self, String> {
        match text_of(raw)? {
            "" => Ok(None),
            text if text.contains('\0') => Err("there is a zero byte in it".into()),
            text => Ok(Some(PathBuf::from(text))),
        }
    }

    fn expected((): &(), _unit: &str) -> String {
        "a path in quotes, or \"\"".into()
    }

    fn show(&self) -> String {
        quoted(
            &self
                .as_ref()
                .map(|path| path.to_string_lossy())
                .unwrap_or_default(),
        )
    }
}

/// An enum whose variants are written by their names, in any case.
macro_rules! choice {
    ($(#[$doc:meta])* $Name:ident { $( $(#[$variant_doc:meta])* $Variant:ident = $text:literal, )+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $Name { $( $(#[$variant_doc])* $Variant, )+ }

        impl fmt::Display for $Name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self { $( $Name::$Variant => $text, )+ })
            }
        }

        impl Value for $Name {
            type Allowed = ();

            fn read(raw: Raw<'_>, (): &()) -> Result<Self, String> {
                let text = text_of(raw)?;
                $( if text.eq_ignore_ascii_case($text) { return Ok($Name::$Variant); } )+
                Err(String::new())
            }

            fn expected((): &(), _unit: &str) -> String {
                format!("one of {}", [$( concat!("\"", $text, "\"") ),+].join(", "))
            }

            fn show(&self) -> String {
                quoted(&self.to_string())
            }
        }
    };
}

choice! {
    /// How much is logged.
    LogLevel {
        /// Nothing.
        Off = "Off",
        /// Problems that need a person.
        Error = "Error",
        /// Events that a person should know of.
        Warn = "Warn",
        /// The life of the process and of connections, rate-limited.
        Info = "Info",
        /// Every change of state.
        Debug = "Debug",
        /// Every packet.
        Trace = "Trace",
    }
}

choice! {
    /// Notices to the backend when its link is opened again.
    Announce {
        /// Nothing: what published backends expect.
        None = "none",
        /// Every connected client (0x03), and every one that ended meanwhile (0x01).
        All = "all",
    }
}

choice! {
    /// Whether a proxy stands between the clients and the listener.
    ProxyProtocol {
        /// No: a connection's first byte is its client's.
        Off = "off",
        /// Yes: every connection begins with a PROXY header.
        Required = "required",
    }
}

choice! {
    /// Whether a group of limits holds.
    Enforce {
        /// Anything beyond a limit is refused.
        On = "on",
        /// Anything beyond a limit is counted as refused, and taken.
        Report = "report",
        /// There are no such limits.
        Off = "off",
    }
}

/// A text as a TOML basic string.
pub(super) fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            other if other.is_control() => out.push_str(&format!("\\u{:04X}", u32::from(other))),
            other => out.push(other),
        }
    }
    out.push('"');
    out
}

pub(super) fn text_of(raw: Raw<'_>) -> Result<&str, String> {
    match raw {
        Raw::Toml(DeValue::String(text)) => Ok(text),
        Raw::Toml(other) => Err(found(other)),
        Raw::Text(text) => Ok(text),
    }
}

/// The hint for a value of another type.
pub(super) fn found(value: &DeValue<'_>) -> String {
    let found = match value {
        DeValue::String(_) => "text",
        DeValue::Integer(_) => "a number",
        DeValue::Float(_) => "a floating-point number",
        DeValue::Boolean(_) => "a truth value",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    };
    format!("this is {found}")
}
