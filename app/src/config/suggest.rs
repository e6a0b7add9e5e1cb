//! Suggestions for keys that do not exist.

use super::keys::{VARIABLE_PREFIX, keys};

/// Returns "did you mean …?" for an unknown path such as `clients.chanel_capacity`, or nothing.
pub(super) fn for_path(unknown: &str) -> String {
    let named = |wanted: &dyn Fn(&str) -> bool| -> Vec<String> {
        keys()
            .filter(|key| wanted(key.name()))
            .map(|key| key.path.to_owned())
            .collect()
    };
    let name = unknown.rsplit('.').next().unwrap_or(unknown);
    let alike = nearest(unknown, keys().map(|key| key.path.to_owned()));
    // The right name in the wrong section, or in none.
    let moved = named(&|candidate| candidate == name);
    // Both are wrong.
    let names = nearest(name, keys().map(|key| key.name().to_owned()));
    let moved_and_alike = named(&|candidate| names.iter().any(|name| name == candidate));
    phrase(
        &[alike, moved, moved_and_alike]
            .into_iter()
            .find(|found| !found.is_empty())
            .unwrap_or_default(),
    )
}

/// Returns the suggestion for an unknown variable such as `VOLTLANE_CLIENT_CHANNEL_CAPACITY`.
pub(super) fn for_variable(unknown: &str) -> String {
    let own_part = |variable: &str| {
        variable
            .strip_prefix(VARIABLE_PREFIX)
            .unwrap_or(variable)
            .to_owned()
    };
    let candidates = nearest(
        &own_part(unknown),
        keys().map(|key| own_part(&key.variable())),
    );
    let names: Vec<_> = candidates
        .iter()
        .map(|name| format!("{VARIABLE_PREFIX}{name}"))
        .collect();
    phrase(&names)
}

/// Returns the candidates with the smallest edit distance to `unknown`, if it is small enough for a typing mistake.
fn nearest(unknown: &str, candidates: impl Iterator<Item = String>) -> Vec<String> {
    const MOST_SLIPS: usize = 3;
    const LONGEST: usize = 100;
    let unknown = unknown.to_ascii_lowercase();
    if unknown.len() > LONGEST {
        return Vec::new();
    }
    let mut fewest = MOST_SLIPS.min(unknown.len() / 3);
    let mut found = Vec::new();
    for candidate in candidates {
        let slips = strsim::damerau_levenshtein(&unknown, &candidate.to_ascii_lowercase());
        if slips < fewest {
            found.clear();
            fewest = slips;
        }
        if slips == fewest && !found.contains(&candidate) {
            found.push(candidate);
        }
    }
    found
}

/// At most three: more would be a list, not a guess.
fn phrase(candidates: &[String]) -> String {
    match candidates {
        [] => String::new(),
        [one] => format!("did you mean {one}?"),
        [first, second] => format!("did you mean {first} or {second}?"),
        [first, second, third, ..] => format!("did you mean {first}, {second} or {third}?"),
    }
}
