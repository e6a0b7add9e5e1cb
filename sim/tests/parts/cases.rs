//! The language of cases.

use sim::cases::{parse, plain, spoil};

#[test]
fn items_are_the_bytes_that_they_say() {
    assert_eq!(plain("[01 ff]*2"), Some(vec![1, 255, 1, 255]));
    assert_eq!(plain("\"a*b\""), Some(b"a*b".to_vec()));
    assert_eq!(plain("\"\""), Some(vec![]));
    assert_eq!(plain("frame:\"hi\""), Some(vec![2, 0, 0, 0, b'h', b'i']));
    assert_eq!(plain("len:0x102"), Some(vec![2, 1, 0, 0]));
    assert_eq!(plain("version:2"), Some(vec![2, 0, 0, 0, 1, 2]));
    for wrong in ["[0]", "[zz]", "bogus", "len:", "frame:x", "version:-1"] {
        assert_eq!(plain(wrong), None, "{wrong}");
    }
    assert_eq!(spoil(vec![0; 4], "/flip=9/cut=2"), Some(vec![0, 2]));
    assert_eq!(spoil(vec![], "/flip=0"), None);
}

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
