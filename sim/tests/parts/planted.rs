//! The table of planted bugs and how it is applied.

use sim::planted::Table;

const CORE: &str = "fn f() {\n    let a = g(1,\n        2);\n    h(a);\n    h(a);\n}\n";

fn apply(rows: &[(&str, &str, &str)]) -> Result<String, String> {
    let mut table = Table::default();
    for (name, find, replace) in rows {
        let text = format!(
            "[[bug]]\nname = '{name}'\nwhy = 'It is wrong.'\n[[bug.change]]\nfile = 'core/src/f.rs'\nfind = '{find}'\nreplace = '{replace}'\n"
        );
        table.add(&text).expect("a row");
    }
    let changed = table.apply(|file| {
        assert_eq!(file, "core/src/f.rs");
        Ok(CORE.to_owned())
    })?;
    Ok(changed["core/src/f.rs"].clone())
}

#[test]
fn changes_take_the_place_of_what_they_find_whatever_its_white_space() {
    let changed = apply(&[
        ("A", "g(1, 2)", "if planted!(A) { 3 } else { g(1, 2) }"),
        ("B", "let a =", "let a = planted!(B) ||"),
    ]);
    let expected = "fn f() {\n    let a = crate::planted!(B) || if crate::planted!(A) { 3 } else { g(1, 2) };\n    h(a);\n    h(a);\n}\n";
    assert_eq!(changed.as_deref(), Ok(expected));
}

#[test]
fn a_text_that_is_not_there_once_is_named_with_its_bug_and_file() {
    for (find, times) in [("g(2, 1)", 0), ("h(a);", 2)] {
        let fault = apply(&[("A", find, "planted!(A)")]).unwrap_err();
        let expected = format!("A: core/src/f.rs: `{find}`: it is there {times} times");
        assert!(fault.starts_with(&expected), "{fault}");
    }
}

#[test]
fn changes_of_the_same_text_are_refused() {
    let rows = [
        ("A", "let a = g(1", "planted!(A)"),
        ("B", "g(1, 2)", "planted!(B)"),
    ];
    let fault = apply(&rows).unwrap_err();
    assert_eq!(
        fault,
        "B: core/src/f.rs: `g(1, 2)`: a change of A touches the same text"
    );
}

#[test]
fn a_change_asks_for_its_own_bug_and_no_other() {
    for replace in ["g(1, 2)", "planted!(B)", "planted!(A) || planted!(B)"] {
        let fault = apply(&[("A", "g(1, 2)", replace)]).unwrap_err();
        assert!(fault.contains("must ask `planted!(A)`"), "{fault}");
    }
}

#[test]
fn names_are_unique_and_every_bug_is_planted_somewhere() {
    let row = ("A", "g(1, 2)", "planted!(A)");
    let fault = apply(&[row, row]).unwrap_err();
    assert!(
        fault.starts_with("A: there are two bugs of this name"),
        "{fault}"
    );
    let mut table = Table::default();
    let without = table.add("[[bug]]\nname = 'A'\nwhy = 'It is wrong.'\nchange = []\n");
    assert_eq!(without, Ok(()));
    let fault = table.apply(|_| unreachable!()).unwrap_err();
    assert_eq!(fault, "A: it has no `[[bug.change]]`");
}

#[test]
fn an_unknown_key_is_an_error_with_its_line() {
    let fault = Table::default()
        .add("[[bug]]\nname = 'A'\nreason = 'none'\n")
        .unwrap_err();
    assert!(
        fault.contains("line 3") && fault.contains("reason"),
        "{fault}"
    );
}
