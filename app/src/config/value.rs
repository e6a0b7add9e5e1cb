//! The types of keys: how a value is parsed, from TOML or from bare text, and how it is formatted.
//!
//! Parsing is [`Deserialize`]. toml's deserializer gets one value at a time, so that every key is checked, whatever is wrong with the
//! others. [`Bare`] provides the text of a variable or an argument, which has no type.

use std::fmt;
use std::ops::RangeInclusive;
use std::path::PathBuf;

use serde::de::value::{Error as BareError, SeqDeserializer, StrDeserializer};
use serde::de::{Error as _, IntoDeserializer as _, Visitor};
use serde::{Deserialize, Deserializer, Serialize, forward_to_deserialize_any};
use toml::Spanned;
use toml::de::{DeValue, ValueDeserializer};

use voltlane_core::protocol::OfferedVersions;

use super::address::Address;
use super::certificates::NamedCertificate;

/// A value as it was found, before its expected type is known.
#[derive(Clone, Copy)]
pub(super) enum Raw<'a> {
    /// From the file, with its TOML type.
    Toml(&'a Spanned<DeValue<'a>>),
    /// From an environment variable or an argument, without a type.
    Text(&'a str),
}

/// The TOML type of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Number,
    Truth,
    Text,
    Texts,
    Numbers,
    Tables,
}

impl Kind {
    /// Returns the type of a list's elements.
    fn of_element(self) -> Option<Kind> {
        match self {
            Kind::Texts => Some(Kind::Text),
            Kind::Numbers => Some(Kind::Number),
            Kind::Number | Kind::Truth | Kind::Text | Kind::Tables => None,
        }
    }
}

/// The restriction of a value that a schema of the file can express beyond its type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Restriction {
    /// Nothing.
    OfType,
    /// The least and the greatest number.
    Range(u64, u64),
    /// The texts that are permitted, in any case.
    OneOf(&'static [&'static str]),
}

/// A type that a key can have.
pub(super) trait Value: Sized {
    /// A restriction of the type for one key: usually a range.
    type Allowed;

    /// Its TOML type.
    const KIND: Kind;

    /// Whether the errors of its `Deserialize` say more than that the value is not [`expected`](Value::expected).
    const EXPLAINS: bool = false;

    /// Parses a value with its `Deserialize`, unless an empty text means none.
    fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error>;

    /// Checks whether a value of the type is permitted for a key. The error says more than [`expected`](Value::expected), and may be empty.
    fn check(&self, allowed: &Self::Allowed) -> Result<(), String>;

    /// Returns the restriction as far as a schema can express it.
    fn restriction(_allowed: &Self::Allowed) -> Restriction {
        Restriction::OfType
    }

    /// Returns the permitted values, to follow "must be". `unit` is "", "of seconds" or "of bytes".
    fn expected(allowed: &Self::Allowed, unit: &str) -> String;

    /// Returns the value as data.
    fn data(&self) -> Data;
}

/// A value of any key, for output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub(super) enum Data {
    Nothing,
    Number(u64),
    Truth(bool),
    Text(String),
    Texts(Vec<String>),
    Numbers(Vec<u64>),
    Certificates(Vec<NamedCertificate>),
}

/// Formats the value as TOML. None is an empty text.
impl fmt::Display for Data {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Data::Nothing => f.write_str("\"\""),
            Data::Number(number) => write!(f, "{number}"),
            Data::Truth(truth) => write!(f, "{truth}"),
            Data::Text(text) => f.write_str(&quoted(text)),
            Data::Texts(texts) => {
                let texts: Vec<_> = texts.iter().map(|text| quoted(text)).collect();
                write!(f, "[{}]", texts.join(", "))
            }
            Data::Numbers(numbers) => {
                let numbers: Vec<_> = numbers.iter().map(u64::to_string).collect();
                write!(f, "[{}]", numbers.join(", "))
            }
            Data::Certificates(all) => {
                let all: Vec<_> = all.iter().map(ToString::to_string).collect();
                write!(f, "[{}]", all.join(", "))
            }
        }
    }
}

/// Parses a value and checks it. The error says more than [`expected`](Value::expected), and may be empty.
pub(super) fn read<T: Value>(raw: Raw<'_>, allowed: &T::Allowed) -> Result<T, String> {
    let value = match raw {
        Raw::Toml(value) => T::deserialize(ValueDeserializer::from(value.clone()))
            .map_err(|error| hint::<T>(value, &error)),
        Raw::Text(text) => T::deserialize(Bare(text)).map_err(|error| explanation::<T>(&error)),
    }?;
    value.check(allowed)?;
    Ok(value)
}

/// Returns the fault of a value in the file: its type, or else the error.
fn hint<T: Value>(value: &Spanned<DeValue<'_>>, error: &toml::de::Error) -> String {
    let (kind, value) = match (T::KIND.of_element(), value.get_ref()) {
        // The error concerns one of them.
        (Some(of_element), DeValue::Array(list)) => {
            let is_meant = |element: &&Spanned<DeValue<'_>>| Some(element.span()) == error.span();
            match list.iter().find(is_meant) {
                Some(element) => (of_element, element.get_ref()),
                None => return explanation::<T>(&error.message()),
            }
        }
        (None, DeValue::Array(list)) if T::KIND == Kind::Tables => {
            let what = explanation::<T>(&error.message());
            // Only one of several needs a number.
            let at = error.span().filter(|_| list.len() > 1);
            let before = |at: usize| list.iter().filter(|one| one.span().start <= at).count();
            return match at.map(|span| before(span.start)) {
                Some(number) if number > 0 => format!("number {number}: {what}"),
                _ => what,
            };
        }
        (None, DeValue::Table(_)) if T::KIND == Kind::Tables => return "this is one table".into(),
        (_, whole) => (T::KIND, whole),
    };
    match (kind, value) {
        (Kind::Number, DeValue::Integer(_))
        | (Kind::Truth, DeValue::Boolean(_))
        | (Kind::Text, DeValue::String(_)) => explanation::<T>(&error.message()),
        (Kind::Number, DeValue::String(text)) if text.parse::<i128>().is_ok() => IN_QUOTES.into(),
        (Kind::Truth, DeValue::String(text)) if text.parse::<bool>().is_ok() => IN_QUOTES.into(),
        (_, other) => found(other),
    }
}

const IN_QUOTES: &str = "this is in quotes";

fn explanation<T: Value>(error: &impl fmt::Display) -> String {
    if T::EXPLAINS {
        error.to_string()
    } else {
        String::new()
    }
}

/// Returns the hint for a value of another type.
fn found(value: &DeValue<'_>) -> String {
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

/// Text without a type, which becomes the requested type. The elements of a list are separated by commas.
struct Bare<'a>(&'a str);

impl<'de> Deserializer<'de> for Bare<'de> {
    type Error = BareError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, BareError> {
        visitor.visit_borrowed_str(self.0)
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, BareError> {
        visitor.visit_bool(self.0.parse().map_err(BareError::custom)?)
    }

    fn deserialize_u32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, BareError> {
        self.deserialize_u64(visitor)
    }

    fn deserialize_u64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, BareError> {
        match self.0.parse() {
            Ok(number) => visitor.visit_i64(number),
            Err(_) => visitor.visit_u64(self.0.parse().map_err(BareError::custom)?),
        }
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, BareError> {
        let is_empty = self.0.trim().is_empty();
        let elements = self.0.split(',').map(str::trim);
        visitor.visit_seq(SeqDeserializer::new(elements.filter(|_| !is_empty)))
    }

    forward_to_deserialize_any! {
        i8 i16 i32 i64 i128 u8 u16 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct tuple tuple_struct map struct enum identifier ignored_any
    }
}

macro_rules! whole_numbers {
    ($($Type:ty),+) => { $(
        impl Value for $Type {
            type Allowed = RangeInclusive<$Type>;

            const KIND: Kind = Kind::Number;

            fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                Deserialize::deserialize(deserializer)
            }

            fn check(&self, allowed: &Self::Allowed) -> Result<(), String> {
                allowed.contains(self).then_some(()).ok_or_else(String::new)
            }

            fn restriction(allowed: &Self::Allowed) -> Restriction {
                Restriction::Range((*allowed.start()).into(), (*allowed.end()).into())
            }

            fn expected(allowed: &Self::Allowed, unit: &str) -> String {
                let of = if unit.is_empty() { String::new() } else { format!(" {unit}") };
                format!("a whole number{of} from {} to {}", allowed.start(), allowed.end())
            }

            fn data(&self) -> Data {
                Data::Number((*self).into())
            }
        }
    )+ };
}

whole_numbers!(u32, u64);

impl Value for bool {
    type Allowed = ();

    const KIND: Kind = Kind::Truth;

    fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Deserialize::deserialize(deserializer)
    }

    fn check(&self, (): &()) -> Result<(), String> {
        Ok(())
    }

    fn expected((): &(), _unit: &str) -> String {
        "true or false".into()
    }

    fn data(&self) -> Data {
        Data::Truth(*self)
    }
}

impl Value for Address {
    /// The lowest port: 0 to bind, 1 to connect.
    type Allowed = RangeInclusive<u16>;

    const KIND: Kind = Kind::Text;
    const EXPLAINS: bool = true;

    fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Deserialize::deserialize(deserializer)
    }

    fn check(&self, allowed: &Self::Allowed) -> Result<(), String> {
        if allowed.contains(&self.port()) {
            return Ok(());
        }
        let (lowest, highest) = (allowed.start(), allowed.end());
        Err(format!("the port is not from {lowest} to {highest}"))
    }

    fn expected(_allowed: &Self::Allowed, _unit: &str) -> String {
        "an address such as \"127.0.0.1:42000\", \"[::1]:42000\" or \"name:42000\"".into()
    }

    fn data(&self) -> Data {
        Data::Text(self.to_string())
    }
}

impl Value for PathBuf {
    type Allowed = ();

    const KIND: Kind = Kind::Text;
    const EXPLAINS: bool = true;

    fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Deserialize::deserialize(deserializer)
    }

    fn check(&self, (): &()) -> Result<(), String> {
        if self.as_os_str().as_encoded_bytes().contains(&0) {
            return Err("there is a zero byte in it".into());
        }
        Ok(())
    }

    fn expected((): &(), _unit: &str) -> String {
        "a path in quotes".into()
    }

    fn data(&self) -> Data {
        Data::Text(self.to_string_lossy().into_owned())
    }
}

impl Value for OfferedVersions {
    type Allowed = ();

    const KIND: Kind = Kind::Numbers;
    const EXPLAINS: bool = true;

    fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let numbers = Vec::<Number>::deserialize(deserializer)?;
        let numbers: Vec<u32> = numbers.into_iter().map(|Number(number)| number).collect();
        OfferedVersions::new(&numbers).map_err(D::Error::custom)
    }

    fn check(&self, (): &()) -> Result<(), String> {
        Ok(())
    }

    fn expected((): &(), _unit: &str) -> String {
        "a list of versions: [2], [3] or [2, 3]".into()
    }

    fn data(&self) -> Data {
        Data::Numbers(self.numbers().into_iter().map(u64::from).collect())
    }
}

/// A number of a list, which is text in a variable.
struct Number(u32);

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;

        impl Visitor<'_> for Either {
            type Value = Number;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number")
            }

            fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<Number, E> {
                // No version has a number that is no u32.
                Ok(Number(u32::try_from(number).unwrap_or(u32::MAX)))
            }

            fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<Number, E> {
                Ok(Number(u32::try_from(number).unwrap_or(u32::MAX)))
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Number, E> {
                let number = text.parse().map(Number);
                number.map_err(|_| E::custom(format!("{text:?} is not a number")))
            }

            // From the file, where a number is written as one.
            fn visit_borrowed_str<E: serde::de::Error>(self, _: &str) -> Result<Number, E> {
                Err(E::custom(IN_QUOTES))
            }

            fn visit_string<E: serde::de::Error>(self, _: String) -> Result<Number, E> {
                Err(E::custom(IN_QUOTES))
            }
        }
        deserializer.deserialize_any(Either)
    }
}

/// An optional value is written like the value, and none as an empty text.
impl<T: Value> Value for Option<T> {
    type Allowed = T::Allowed;

    const KIND: Kind = T::KIND;
    const EXPLAINS: bool = T::EXPLAINS;

    fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text.is_empty() {
            return Ok(None);
        }
        let text: StrDeserializer<'_, D::Error> = text.as_str().into_deserializer();
        T::deserialize(text).map(Some)
    }

    fn check(&self, allowed: &Self::Allowed) -> Result<(), String> {
        self.iter().try_for_each(|value| value.check(allowed))
    }

    fn expected(allowed: &Self::Allowed, unit: &str) -> String {
        format!("{}, or \"\"", T::expected(allowed, unit))
    }

    fn data(&self) -> Data {
        self.as_ref().map_or(Data::Nothing, Value::data)
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

        impl<'de> Deserialize<'de> for $Name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                $( if text.eq_ignore_ascii_case($text) { return Ok($Name::$Variant); } )+
                Err(D::Error::unknown_variant(&text, &[$( $text ),+]))
            }
        }

        impl Value for $Name {
            type Allowed = ();

            const KIND: Kind = Kind::Text;

            fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                Deserialize::deserialize(deserializer)
            }

            fn check(&self, (): &()) -> Result<(), String> {
                Ok(())
            }

            fn restriction((): &()) -> Restriction {
                Restriction::OneOf(&[$( $text ),+])
            }

            fn expected((): &(), _unit: &str) -> String {
                format!("one of {}", [$( concat!("\"", $text, "\"") ),+].join(", "))
            }

            fn data(&self) -> Data {
                Data::Text(self.to_string())
            }
        }
    };
}

choice! {
    /// The log level.
    LogLevel {
        /// Nothing.
        Off = "Off",
        /// Problems that need a person.
        Error = "Error",
        /// Events that a person should know about.
        Warn = "Warn",
        /// The life of the process and of connections, rate-limited.
        Info = "Info",
        /// Every change of state.
        Debug = "Debug",
        /// Even more detail. No level logs packets.
        Trace = "Trace",
    }
}

choice! {
    /// How a line of the log is written.
    LogFormat {
        /// For people: the time, the level, the message, and fields as name=value.
        Text = "text",
        /// For machines: a JSON object.
        Json = "json",
        /// Text where a person reads it, on a terminal or in the journal of systemd, and otherwise JSON.
        Auto = "auto",
    }
}

choice! {
    /// Notices to the backend when its link opens again.
    Announce {
        /// None, as published backends expect.
        None = "none",
        /// Every attached session (0x03), and every one that ended meanwhile (0x01).
        All = "all",
    }
}

choice! {
    /// Which versions of the backend link the backend may ask for.
    LinkProtocol {
        /// Version 2, whether it asks or not.
        V2 = "2",
        /// Version 2 until it asks for version 3.
        Auto = "auto",
        /// Version 3: nothing is sent to a backend that does not ask.
        V3 = "3",
    }
}

choice! {
    /// Whether there is a proxy between the clients and the listener.
    ProxyProtocol {
        /// No: a connection's first byte is its client's.
        Off = "off",
        /// Yes: every connection begins with a PROXY header.
        Required = "required",
    }
}

choice! {
    /// How clients are carried.
    Transport {
        /// As they are.
        Tcp = "tcp",
        /// Within TLS.
        Tls = "tls",
        /// In WebSocket messages.
        Ws = "ws",
        /// In WebSocket messages within TLS.
        Wss = "wss",
    }
}

impl Transport {
    /// Returns whether there is TLS.
    #[must_use]
    pub fn has_tls(self) -> bool {
        matches!(self, Transport::Tls | Transport::Wss)
    }

    /// Returns whether there is WebSocket.
    #[must_use]
    pub fn has_websocket(self) -> bool {
        matches!(self, Transport::Ws | Transport::Wss)
    }
}

choice! {
    /// The lowest version of TLS.
    MinVersion {
        /// TLS 1.2.
        Tls12 = "1.2",
        /// TLS 1.3.
        Tls13 = "1.3",
    }
}

choice! {
    /// The answer to a client that asks for a name that is not in the certificate.
    Sni {
        /// It is shown the certificate nevertheless.
        First = "first",
        /// The client is refused.
        Strict = "strict",
    }
}

choice! {
    /// Whether clients show certificates.
    ClientAuth {
        /// No.
        Off = "off",
        /// Those that have one.
        Optional = "optional",
        /// All.
        Required = "required",
    }
}

choice! {
    /// The header of a request that tells where it comes from.
    Forwarded {
        /// None.
        Off = "off",
        /// X-Forwarded-For.
        XForwardedFor = "x-forwarded-for",
        /// Forwarded (RFC 7239).
        Forwarded = "forwarded",
    }
}

choice! {
    /// Whether a group of limits is enforced.
    Enforce {
        /// An excess over a limit is refused.
        On = "on",
        /// An excess over a limit is counted as refused, but accepted.
        Report = "report",
        /// These limits do not apply.
        Off = "off",
    }
}

/// Formats a text as a TOML basic string.
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
