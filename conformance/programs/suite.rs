//! The cases of the Autobahn test suite for WebSocket servers, against the edge's layer. (RFC 6455, SPEC 16.3 and 16.4)

use conformance::others::{python, script};
use conformance::{Directory, echo};

/// What the layer does not do: check that text is UTF-8, as it takes no text, and compress.
const LEFT_OUT: [&str; 3] = ["6.*", "12.*", "13.*"];
/// The other cases.
const CASES: usize = 156;

/// Where RFC 6455 leaves a choice, and the suite and SPEC choose differently.
const OTHER_CHOICES: [(&str, &str); 4] = [
    ("2.10", PINGS_TOGETHER),
    ("2.11", PINGS_TOGETHER),
    ("9.7.1", EMPTY_MESSAGES),
    ("9.8.1", EMPTY_MESSAGES),
];
const PINGS_TOGETHER: &str =
    "of PINGs that come together the last is answered: RFC 6455 5.5.3, SPEC 16.3(c)";
const EMPTY_MESSAGES: &str = "of 1,000 empty messages in a row 256 are taken: SPEC 16.3(e)";

#[test]
fn the_layer_passes_the_cases_of_autobahn() {
    let Some(mut command) = python("kosoku") else {
        return;
    };
    let directory = Directory::new();
    let address = echo::serve().to_string();
    command
        .current_dir(directory.path())
        .arg(script("suite.py"));
    command.arg(address).args(LEFT_OUT);
    // No wait of ours: each case has a bound of its own, and on a busy machine all of them take a while.
    let finished = command.output().expect("it runs");
    let text = |output| String::from_utf8(output).expect("words");
    let (stdout, stderr) = (text(finished.stdout), text(finished.stderr));
    let status = finished.status;
    assert!(status.success(), "{status}: {stderr}\n{stdout}");
    let lines = stdout.lines();
    let cases: Vec<Vec<&str>> = lines.map(|line| line.split('\t').collect()).collect();
    assert_eq!(cases.len(), CASES, "{stdout}");
    let is_fine = |verdict: &str| ["OK", "NON-STRICT", "INFORMATIONAL"].contains(&verdict);
    for case in cases {
        let [number, behaviour, close, why] = case[..] else {
            panic!("a line of suite.py: {case:?}");
        };
        if is_fine(behaviour) && is_fine(close) {
            continue;
        }
        let says = format!("{number}: {behaviour}, {close}: {why}");
        let choice = OTHER_CHOICES.iter().find(|(other, _)| *other == number);
        let (_, choice) = choice.expect(&says);
        println!("{says} But {choice}.");
    }
}
