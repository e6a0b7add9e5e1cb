//! The schema of the file, for editors and for checks without the program.

use serde_json::{Map, Value, json};

use super::certificates::MAX_CERTIFICATES;
use super::keys::{Key, SECTIONS, Section, Settings};
use super::listeners::MAX_LISTENERS;
use super::value::{Kind, Restriction};

/// Returns the JSON Schema (2020-12) of `connserver.toml`: each key with its type, its range, its default and its meaning. The program
/// refuses some values that the schema takes, such as an address without a port, and keys that contradict each other.
#[must_use]
pub fn json_schema() -> Value {
    let defaults = Settings::default();
    let tables = SECTIONS
        .iter()
        .map(|section| (section.name.to_owned(), table(section, &defaults)));
    let sections = SECTIONS.iter().map(|section| {
        let one = json!({ "$ref": format!("#/$defs/{}", section.name) });
        let schema = match section.name {
            "listener" => {
                let several = json!({ "type": "array", "maxItems": MAX_LISTENERS, "items": one });
                json!({ "anyOf": [one, several] })
            }
            _ => one,
        };
        (section.name.to_owned(), schema)
    });
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "The configuration of a Voltlane edge",
        "type": "object",
        "additionalProperties": false,
        "properties": sections.collect::<Map<_, _>>(),
        "$defs": tables.collect::<Map<_, _>>(),
    })
}

fn table(section: &Section, defaults: &Settings) -> Value {
    let keys = section.keys.iter();
    let keys = keys.map(|key| (key.name().to_owned(), value(key, defaults)));
    json!({
        "type": "object",
        "description": text(section.comment),
        "additionalProperties": false,
        "properties": keys.collect::<Map<_, _>>(),
    })
}

fn value(key: &Key, defaults: &Settings) -> Value {
    let mut schema = match key.kind() {
        Kind::Number => json!({ "type": "integer" }),
        Kind::Truth => json!({ "type": "boolean" }),
        Kind::Text => json!({ "type": "string" }),
        Kind::Texts => json!({ "type": "array", "items": { "type": "string" } }),
        Kind::Numbers => json!({ "type": "array", "items": { "type": "integer" } }),
        Kind::Tables => {
            json!({ "type": "array", "maxItems": MAX_CERTIFICATES, "items": certificate() })
        }
    };
    match key.restriction() {
        Restriction::OfType => {}
        Restriction::Range(least, greatest) => {
            schema["minimum"] = least.into();
            schema["maximum"] = greatest.into();
        }
        // An editor offers the names, and their case does not matter.
        Restriction::OneOf(names) => {
            schema["anyOf"] = json!([{ "enum": names }, { "pattern": in_any_case(names) }]);
        }
    }
    let meaning = format!("{}\nMust be {}.", text(key.comment), key.expected());
    schema["description"] = meaning.into();
    schema["default"] = serde_json::to_value(key.data(defaults)).expect("numbers and texts");
    if schema["default"].is_null() {
        schema["default"] = "".into();
    }
    schema
}

/// The table of one certificate beside the first.
fn certificate() -> Value {
    json!({
        "type": "object",
        "additionalProperties": false,
        "required": ["file", "key"],
        "properties": {
            "file": { "type": "string" },
            "key": { "type": "string" },
            "names": { "type": "array", "items": { "type": "string" } },
        },
    })
}

/// Returns a comment without the marker at the beginning of each line.
fn text(comment: &[&str]) -> String {
    let lines: Vec<_> = comment.iter().map(|line| line.trim()).collect();
    lines.join(" ")
}

/// Returns a regular expression of ECMA-262 for these names in capitals or not.
fn in_any_case(names: &[&str]) -> String {
    let name = |name: &&str| {
        let letters = name.chars().map(|letter| match letter {
            '.' => "[.]".to_owned(),
            letter if letter.is_ascii_alphabetic() => {
                format!(
                    "[{}{}]",
                    letter.to_ascii_uppercase(),
                    letter.to_ascii_lowercase()
                )
            }
            letter => letter.to_string(),
        });
        letters.collect::<String>()
    };
    let names: Vec<_> = names.iter().map(name).collect();
    format!("^({})$", names.join("|"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_taken_in_any_case() {
        assert_eq!(in_any_case(&["1.2", "ab-c"]), "^(1[.]2|[Aa][Bb]-[Cc])$");
    }

    #[test]
    fn every_key_has_a_type_a_default_and_a_meaning() {
        let schema = json_schema();
        for section in SECTIONS {
            let place = &schema["$defs"][section.name];
            for key in section.keys {
                let of_key = &place["properties"][key.name()];
                assert!(of_key["type"].is_string(), "{}: {of_key}", key.path);
                assert!(!of_key["default"].is_null(), "{}: {of_key}", key.path);
                let meaning = of_key["description"].as_str().unwrap_or_default();
                assert!(meaning.contains("Must be "), "{}: {of_key}", key.path);
            }
        }
        let secs = &schema["$defs"]["general"]["properties"]["watch_secs"];
        assert_eq!(
            (&secs["minimum"], &secs["maximum"]),
            (&json!(0), &json!(3600))
        );
    }
}
