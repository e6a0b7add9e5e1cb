//! Keys that no longer exist: a configuration that still has one is told why, and not that it is misspelt.

use super::keys::VARIABLE_PREFIX;
use super::problem::Fault;

/// Each key with its replacement. An entry stays for good, since configurations are old.
const RETIRED: [(&str, &str); 1] = [(
    "limits.challenges_per_session",
    "the challenges of one session are not counted any more, limits.max_half_open bounds them all",
)];

/// Returns why the key `path` no longer exists, if it ever did.
pub(super) fn for_path(path: &str) -> Option<Fault> {
    let (_, why) = RETIRED.iter().find(|(retired, _)| *retired == path)?;
    Some(Fault::new(format!("no longer exists: {why}")).remedy("remove the line"))
}

/// Returns the advice for a variable such as `VOLTLANE_LIMITS_CHALLENGES_PER_SESSION`.
pub(super) fn for_variable(variable: &str) -> Option<Fault> {
    let own_part = variable.strip_prefix(VARIABLE_PREFIX)?;
    let is_its_name = |path: &str| path.replace('.', "_").to_ascii_uppercase() == own_part;
    let (_, why) = RETIRED.iter().find(|(retired, _)| is_its_name(retired))?;
    Some(Fault::new(format!("no longer exists: {why}")).remedy("remove the variable"))
}

#[cfg(test)]
mod tests {
    use super::super::keys::keys;
    use super::*;

    #[test]
    fn no_key_is_retired_and_there() {
        for (retired, _) in RETIRED {
            assert!(keys().all(|key| key.path != retired), "{retired}");
        }
    }
}
