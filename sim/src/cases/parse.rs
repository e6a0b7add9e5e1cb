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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_case_is_what_its_lines_say() {
        let text = "# a file\ncase X1 \"with # in it\"\n  spec 2.1, 2.2(b)\n  row F1\n  each v = 1 2\n  \
                    config clients.idle_timeout_secs = $v\n  a sends [01 02]*3 \"a b\"  # why\n  config x = 1\n";
        let cases = parse("f", text);
        assert_eq!(cases.len(), 1);
        let case = &cases[0];
        assert_eq!(
            (case.title.as_str(), case.place.as_str()),
            ("with # in it", "f:2")
        );
        assert_eq!(
            (&case.spec[..], &case.rows[..]),
            (
                &["2.1".to_owned(), "2.2(b)".to_owned()][..],
                &["F1".to_owned()][..]
            )
        );
        assert_eq!(case.steps[0].words, ["a", "sends", "[01 02]*3", "\"a b\""]);
        assert_eq!(case.steps[1].words, ["config", "x", "=", "1"]);
        let configs: Vec<_> = case
            .expanded()
            .into_iter()
            .map(|case| case.config)
            .collect();
        assert_eq!(
            configs,
            [
                "clients.idle_timeout_secs = 1\n",
                "clients.idle_timeout_secs = 2\n"
            ]
        );
        assert!(
            !case.is_for_sockets(),
            "it changes the configuration on the way"
        );
    }
}
