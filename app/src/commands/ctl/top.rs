//! `top`: the status in a terminal, each second.

use std::io::{self, IsTerminal as _, Write as _};

use serde_json::Value;

use super::Failure;
use super::call::Caller;
use super::show;
use crate::cli::TopArgs;

/// Moves to the upper left corner and clears what follows.
const CLEAR: &str = "\x1b[H\x1b[J";

/// Shows the edge until it ends or nobody reads. In a pipe, each status follows the one before, without colours.
pub(super) fn run(caller: &Caller, args: &TopArgs) -> Result<(), Failure> {
    let mut out = io::stdout();
    let is_terminal = out.is_terminal();
    let has_colours =
        is_terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    if args.once {
        let status = caller.call("GET", "/v1/status", None)?;
        // Output that nobody reads is no error.
        let _ = out.write_all(page(&status, None, has_colours).as_bytes());
        return Ok(());
    }
    let mut before: Option<Value> = None;
    caller.watch(None, |name, status| {
        if !matches!(name, "status" | "error") {
            return true;
        }
        let mut text = page(status, before.as_ref(), has_colours);
        if is_terminal {
            text.insert_str(0, CLEAR);
        } else {
            text.push('\n');
        }
        before = Some(status.clone());
        out.write_all(text.as_bytes())
            .and_then(|()| out.flush())
            .is_ok()
    })
}

/// Formats a status, with the rates since the one before.
fn page(status: &Value, before: Option<&Value>, has_colours: bool) -> String {
    if let Some(error) = status["error"].as_str() {
        return format!("{error}\n");
    }
    let mut text = show::status(status);
    if has_colours {
        let colour = if status["ready"] == true { 32 } else { 31 };
        if let Some((head, rest)) = text.split_once('\n') {
            text = format!("\x1b[1;{colour}m{head}\x1b[0m\n{rest}");
        }
    }
    if let Some(before) = before {
        let rate = |path: &str| {
            let at = |status: &Value| status.pointer(path).and_then(Value::as_u64);
            at(status)
                .unwrap_or(0)
                .saturating_sub(at(before).unwrap_or(0))
        };
        text.push_str(&format!(
            "a second: {} packets up, {} down; {} bytes in, {} out; {} joined, {} resumed\n",
            rate("/packets/up"),
            rate("/packets/down"),
            rate("/bytes/in"),
            rate("/bytes/out"),
            rate("/joined"),
            rate("/resumed"),
        ));
    }
    let shards = status["shards"].as_array().into_iter().flatten();
    for (number, shard) in shards.enumerate() {
        let of = |name: &str| show::word(&shard[name]);
        text.push_str(&format!(
            "shard {number}: {} connections, {} attached, {} away, {} up, {} down\n",
            of("connections"),
            of("attached"),
            of("away"),
            of("packets_up"),
            of("packets_down"),
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_rates_are_those_since_the_status_before() {
        let status = |up: u64| json!({ "ready": true, "packets": { "up": up, "down": 5 }, "shards": [{ "away": 2 }] });
        let text = page(&status(12), Some(&status(2)), false);
        assert!(text.contains("a second: 10 packets up, 0 down"), "{text}");
        assert!(
            text.contains("shard 0: - connections, - attached, 2 away"),
            "{text}"
        );
        assert!(!text.contains('\x1b'), "{text}");
        // After a restart the numbers are smaller.
        let text = page(&status(1), Some(&status(2)), true);
        assert!(text.contains("a second: 0 packets up"), "{text}");
        assert!(text.starts_with("\x1b[1;32m"), "{text}");
    }
}
