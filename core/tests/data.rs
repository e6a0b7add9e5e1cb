//! Feature `serde`: what a program stores or configures survives a round trip, and no error reveals a secret.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_test::{Configure as _, Token, assert_de_tokens, assert_de_tokens_error, assert_tokens};
use voltlane_core::client::{SAVED_SESSION_BYTES, SavedSession};
use voltlane_core::edge::{EdgeConfig, Enforce};
use voltlane_core::{ClientId, ShardId};

/// Compares sessions by their bytes, which only this test does.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(transparent)]
struct Same(SavedSession);

impl PartialEq for Same {
    fn eq(&self, other: &Same) -> bool {
        self.0.to_bytes() == other.0.to_bytes()
    }
}

/// The private key of [`saved`]: 32 times this byte.
const SECRET: u8 = 0x5e;

fn saved_bytes() -> [u8; SAVED_SESSION_BYTES] {
    // The curve's generator, a public key that everybody knows.
    const EDGE_KEY: &str = "0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798";
    let mut bytes = [SECRET; SAVED_SESSION_BYTES];
    bytes[0] = 1;
    bytes[1..9].copy_from_slice(&7u64.to_le_bytes());
    for (byte, pair) in bytes[41..].iter_mut().zip(EDGE_KEY.as_bytes().chunks(2)) {
        let pair = std::str::from_utf8(pair).expect("digits");
        *byte = u8::from_str_radix(pair, 16).expect("digits");
    }
    bytes
}

fn saved() -> Same {
    Same(SavedSession::from_bytes(&saved_bytes()).expect("a session"))
}

fn digits(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn an_id_is_its_digits_for_people_and_its_number_else() {
    for number in [0, 1, 0x0102_0304_0506_0708, u64::MAX] {
        let id = ClientId::from_u64(number);
        let text = id.to_string();
        assert_tokens(&id.compact(), &[Token::U64(number)]);
        let json = serde_json::to_string(&id).expect("JSON");
        assert_eq!(json, format!("\"{text}\""));
        assert_eq!(serde_json::from_str::<ClientId>(&json).expect("an id"), id);
    }
    for wrong in [
        "",
        "1",
        "+102030405060708",
        "01020304050607zz",
        "00102030405060708",
    ] {
        let error = serde_json::from_value::<ClientId>(wrong.into()).expect_err(wrong);
        let says = "expected a client id of 16 hexadecimal digits";
        assert!(error.to_string().contains(says), "{error}");
    }
    serde_json::from_str::<ClientId>("7").expect_err("no text");
}

#[test]
fn a_saved_session_is_its_bytes() {
    let bytes: &'static [u8] = saved_bytes().to_vec().leak();
    let text: &'static str = digits(bytes).leak();
    assert_tokens(&saved().compact(), &[Token::Bytes(bytes)]);
    assert_tokens(&saved().readable(), &[Token::Str(text)]);
    let json = serde_json::to_string(&saved()).expect("JSON");
    assert_eq!(
        serde_json::from_str::<Same>(&json).expect("a session"),
        saved()
    );
    // A reader passes owned text, and not borrowed text.
    assert_eq!(
        serde_json::from_reader::<_, Same>(json.as_bytes()).expect("a session"),
        saved()
    );
    // A format without bytes has a list.
    assert_de_tokens(&saved().compact(), &list(bytes));
}

fn list(bytes: &[u8]) -> Vec<Token> {
    let mut tokens = vec![Token::Seq { len: None }];
    tokens.extend(bytes.iter().map(|&byte| Token::U8(byte)));
    tokens.push(Token::SeqEnd);
    tokens
}

#[test]
fn an_invalid_saved_session_has_a_reason_and_reveals_no_secret() {
    let good = digits(&saved_bytes());
    let secret = digits(&[SECRET; 4]);
    let mut future = saved_bytes();
    future[0] = 2;
    let rows = [
        (good[2..].to_owned(), "format 7, 1 is known"),
        (
            good[..good.len() - 2].to_owned(),
            "saved session of 73 bytes, 74 needed",
        ),
        (format!("{good}00"), "not a saved session of 74 bytes"),
        (good[1..].to_owned(), "not a saved session of 74 bytes"),
        (
            good.replacen("5e", "zz", 1),
            "not a saved session of 74 bytes",
        ),
        (digits(&future), "format 2, 1 is known"),
        (String::new(), "saved session of 0 bytes, 74 needed"),
    ];
    for (text, says) in rows {
        let error = serde_json::from_value::<Same>(text.clone().into()).expect_err(says);
        let error = error.to_string();
        assert!(error.contains(says), "{text}: {error}");
        assert!(!error.contains(&secret), "{error}");
    }
    // In a binary format, too: a list is bounded, and text is not shown either.
    assert_de_tokens_error::<serde_test::Compact<Same>>(
        &list(&[1; SAVED_SESSION_BYTES + 1])[..=SAVED_SESSION_BYTES + 1],
        "invalid length 75, expected a saved session of 74 bytes, as such or in hexadecimal digits",
    );
    assert_de_tokens_error::<serde_test::Compact<Same>>(
        &[Token::Str("not even digits")],
        "not a saved session of 74 bytes, as such or in hexadecimal digits",
    );
}

#[test]
fn a_configuration_is_what_it_was_and_what_is_missing_is_the_default() {
    let mut config = EdgeConfig::default();
    config.shard = ShardId::new(3);
    config.shards = 4;
    config.clients.stale_timeout = Duration::from_millis(1_500);
    config.master.connect_timeout = Duration::MAX;
    config.limits.enforce_sources = Enforce::Report;
    config
        .limits
        .exempt
        .push("10.0.0.0/8".parse().expect("a network"));
    config.listener.proxy_required = true;
    config.clients.pace.bytes = 7;
    for config in [config, EdgeConfig::default()] {
        let json = serde_json::to_string(&config).expect("JSON");
        assert_eq!(
            serde_json::from_str::<EdgeConfig>(&json).expect("a configuration"),
            config
        );
    }
    let part = r#"{"clients": {"channel_capacity": 7}, "limits": {"enforce_memory": "off"}}"#;
    let mut expected = EdgeConfig::default();
    expected.clients.channel_capacity = 7;
    expected.limits.enforce_memory = Enforce::Off;
    assert_eq!(
        serde_json::from_str::<EdgeConfig>(part).expect("a configuration"),
        expected
    );
    let slip = serde_json::from_str::<EdgeConfig>(r#"{"clients": {"chanel_capacity": 7}}"#);
    let error = slip.expect_err("no such field").to_string();
    assert!(error.contains("unknown field `chanel_capacity`"), "{error}");
}
