//! Parses a file of cases.

use super::{Case, Step};

/// Splits a line into words at blanks outside of quotes and brackets. `#` after a blank begins a comment.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut closing) = (Vec::new(), String::new(), None);
    for character in line.chars() {
        match (closing, character) {
            (None, '#') if word.is_empty() => break,
            (None, ' ') => {
                if !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
                continue;
            }
            (None, '"') => closing = Some('"'),
            (None, '[') => closing = Some(']'),
            (Some(end), character) if end == character => closing = None,
            _ => {}
        }
        word.push(character);
    }
    if !word.is_empty() {
        words.push(word);
    }
    words
}

/// Parses the cases of a file.
///
/// # Panics
/// When the file is malformed.
#[must_use]
pub fn parse(file: &str, text: &str) -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let number = index + 1;
        let words = words(line);
        let Some(first) = words.first() else {
            continue;
        };
        let place = format!("{file}:{number}");
        if first == "case" {
            let [_, id, title] = words.as_slice() else {
                panic!("{place}: case ID \"TITLE\"");
            };
            cases.push(Case {
                id: id.clone(),
                title: title.trim_matches('"').to_owned(),
                place,
                spec: Vec::new(),
                rows: Vec::new(),
                config: String::new(),
                core_only: false,
                uncut: false,
                of_3: false,
                each: None,
                steps: Vec::new(),
            });
            continue;
        }
        let case = cases
            .last_mut()
            .unwrap_or_else(|| panic!("{place}: a line before the first case"));
        let list = || words[1..].iter().map(|word| word.trim_end_matches(','));
        match first.as_str() {
            "spec" => case.spec.extend(list().map(str::to_owned)),
            "row" => case.rows.extend(list().map(str::to_owned)),
            "core" => case.core_only = true,
            "uncut" => case.uncut = true,
            "each" => {
                assert_eq!(words.get(2).map(String::as_str), Some("="), "{place}");
                case.each = Some((words[1].clone(), words[3..].to_vec()));
            }
            "config" if case.steps.is_empty() => {
                case.config += &words[1..].join(" ");
                case.config += "\n";
            }
            _ => case.steps.push(Step {
                line: number,
                words,
            }),
        }
    }
    cases
}
