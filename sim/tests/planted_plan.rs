//! The bugs that the design of version 3 and its review wanted to be planted, and its invariants: each has its rows in `sim/planted`, or its
//! rules of an engine, or says what holds it instead. So "all of them" can be checked.
//!
//! A new bug or invariant gets its entry here, with the rows and rules that it has. Whether the rows are found is for the tests of planted
//! bugs.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use sim::planted::{Table, workspace};

use Why::{Gone, Held, Rows};

/// What became of a bug that was to be planted.
enum Why {
    /// These rows plant it, or its parts.
    Rows(&'static [&'static str]),
    /// The protocol has no such thing.
    Gone(&'static str),
    /// What it breaks no engine does: these tests hold it.
    Held(&'static [&'static str]),
}

/// What became of an invariant.
enum By {
    /// It is judged by these rules in each step of a run.
    Rules(&'static [&'static str]),
    /// These tests hold it.
    Tests(&'static [&'static str]),
}

/// The bugs by topic.
const BUGS: &[(&str, &[(&str, Why)])] = &[
    (
        "The opening",
        &[
            (
                "an edge takes a claim of version 2 on an id of version 3",
                Held(&["nobody_else_reads_an_early_claim_of_version_2_for_a_session_of_3"]),
            ),
            (
                "a client falls back to version 2 where its edge is pinned",
                Held(&["a_client_never_falls_back_from_a_known_or_pinned_edge"]),
            ),
            (
                "the keys of a join do not depend on the edge's key",
                Rows(&["JoinKeysWithoutEdgeKey", "JoinKeysWithoutHello"]),
            ),
            (
                "one key is up and down",
                Rows(&["OneKeyForBothDirections", "OneKeyAfterResume"]),
            ),
            (
                "the backend is told of a join at its Hello",
                Held(&["a_join_record_that_does_not_open_begins_nothing"]),
            ),
            (
                "a point is multiplied before the pace allows it",
                Held(&["joins_have_a_pace_and_wait_for_it"]),
            ),
            (
                "a pin is compared after what was agreed is used",
                Held(&["a_client_takes_only_its_pinned_edge"]),
            ),
            (
                "a token goes to an edge that has proven nothing",
                Held(&["a_token_goes_to_a_pinned_edge_or_where_the_first_one_is_trusted"]),
            ),
        ],
    ),
    (
        "Attempts to resume",
        &[
            (
                "the highest counter is set before the proof",
                Rows(&["HighestSetAtClaim"]),
            ),
            (
                "an equal counter is accepted",
                Rows(&["EqualCounterAccepted"]),
            ),
            ("the chain is not advanced", Rows(&["ChainStandsStill"])),
            (
                "the keys of a resume do not depend on the Answer",
                Rows(&["ResumeKeysWithoutAnswer"]),
            ),
            (
                "the key of an Answer does not depend on the Claim",
                Rows(&[
                    "AnswerKeyWithoutClaim",
                    "ResumeKeysWithoutClaim",
                    "EarlyKeyWithoutClaim",
                ]),
            ),
            (
                "a cold attempt is treated as a hot one",
                Held(&[
                    "a_claim_of_another_run_is_gone_or_not_here",
                    "after_any_schedule_the_owner_is_back_within_three_attempts_and_nothing_is_lost",
                ]),
            ),
            (
                "a session is looked up before its Claim has opened",
                Held(&["a_claim_that_does_not_open_is_closed_and_costs_its_source_half_a_second"]),
            ),
            (
                "early packets are taken twice",
                Rows(&["EarlyTakenTwice", "EarlyPacketsAgain"]),
            ),
            (
                "a restored client is treated as a hot one, or numbers when it sends",
                Held(&["a_restored_client_takes_over_from_its_old_self"]),
            ),
            (
                "what a client knows to be confirmed is not compared",
                Gone("a life takes its place, which a client draws and never saves (SPEC 44)"),
            ),
            (
                "the counter is not compared again at the early record",
                Held(&["of_two_attempts_that_were_judged_the_later_one_is_compared_again"]),
            ),
            (
                "the old connection is closed when a Claim opens",
                Rows(&["ClaimDropsOldConnection"]),
            ),
        ],
    ),
    (
        "Packets",
        &[
            (
                "the ring is trimmed when something is sent",
                Rows(&["RingTrimmedWhenSent"]),
            ),
            (
                "an ACK tells what was seen, and not what was taken",
                Rows(&["AckOfReceived", "AckOfLine"]),
            ),
            (
                "the replay begins behind what was acknowledged",
                Rows(&["ReplayFromAcknowledged"]),
            ),
            (
                "a new packet goes before the replay",
                Held(&[
                    "mixed_with_live_packets_keep_their_order",
                    "a_drop_during_the_replay_and_during_the_replay_of_that",
                ]),
            ),
            ("a gap takes one number too few", Rows(&["GapOneTooFew"])),
            (
                "one side alone hears of a gap",
                Rows(&["GapNotTold", "GapToldAsSuperseded"]),
            ),
            (
                "an ACK of more than was sent is accepted",
                Held(&["an_ack_beyond_what_was_sent_is_refused_and_changes_nothing"]),
            ),
            (
                "a session that is parked loses what was not sent",
                Rows(&["ParkLosesPackets"]),
            ),
            (
                "the bound of the ring is looked at too late",
                Rows(&["RingOneTooMany", "RingBytesIgnored"]),
            ),
        ],
    ),
    (
        "Records",
        &[
            (
                "the count of records is not advanced",
                Rows(&["RecordCountStandsStill"]),
            ),
            (
                "a key is updated one record late",
                Gone("keys are not updated within a connection: a count of 64 bits never ends"),
            ),
            (
                "the number of a packet is not part of a record",
                Rows(&["NumberNotInRecord"]),
            ),
            (
                "pieces are joined across a resume",
                Gone(
                    "what reads and what writes them is of one connection, and the next one has its own",
                ),
            ),
            (
                "of a packet in pieces the last one comes alone",
                Rows(&["PiecesNotJoined"]),
            ),
            ("padding counts as a packet", Rows(&["PadTakesNumber"])),
            ("pieces do not count as memory", Rows(&["PiecesUncounted"])),
        ],
    ),
    (
        "Ends",
        &[
            (
                "a client that was taken over comes back at once",
                Rows(&["TakenOverComesBack"]),
            ),
            (
                "a client does not wait for a random time",
                Held(&["a_pause_is_at_least_what_the_edge_asks_for_and_at_least_the_usual_one"]),
            ),
            (
                "an address is kept that has failed",
                Held(&[
                    "an_address_that_answers_nothing_is_passed_after_a_pause_and_one_that_refuses_at_once",
                ]),
            ),
            ("CLOSE overtakes packets", Rows(&["GoodbyeOvertakes"])),
        ],
    ),
    (
        "Classes",
        &[
            (
                "a newer packet takes the place of an older one, and not the last",
                Rows(&["SupersedesOtherKey", "SupersededStays"]),
            ),
            (
                "a packet that is under way counts as superseded",
                Rows(&["UnderWayIsSuperseded"]),
            ),
            (
                "a run of superseded packets has a wrong count",
                Rows(&["SupersedesOneTooMany", "TakenToldAgain"]),
            ),
            (
                "a key is kept when its packet is acknowledged",
                Rows(&["KeyKeptWhenAcknowledged"]),
            ),
        ],
    ),
    (
        "Notices",
        &[
            (
                "AWAY comes behind the RESUMED of the next connection",
                Rows(&["NoticeOvertakesLine", "AwayToldTwice"]),
            ),
            (
                "ENDED comes before the line is empty",
                Rows(&["NoticeOvertakesLine"]),
            ),
            (
                "another boot of the backend hears no JOINED",
                Rows(&["JoinedLostAtBoot", "OwnHidesJoined"]),
            ),
        ],
    ),
    (
        "Groups",
        &[
            (
                "a packet for everybody reaches one whose JOINED is under way",
                Rows(&["MemberByJoined"]),
            ),
            (
                "one who is left out gets a packet",
                Rows(&["LeftOutGetsIt"]),
            ),
            (
                "a membership acts in another place than its own",
                Rows(&["MemberNotAdded", "RemovalIgnored", "NewcomerNotAdded"]),
            ),
            (
                "a session that has ended stays a member",
                Rows(&["GroupKeepsEnded"]),
            ),
            (
                "a part of a long delivery forgets who has come meanwhile",
                Gone("a packet for a group is delivered in one step"),
            ),
        ],
    ),
    (
        "Flow",
        &[
            (
                "credit comes back when a packet is written",
                Rows(&["SettledBeforeTaken"]),
            ),
            (
                "what was settled is lost with the link",
                Rows(&["SettledLostWithoutRoom", "CreditNotReturned"]),
            ),
            (
                "a pause is forgotten at a resume",
                Rows(&["PauseForgottenAtResume"]),
            ),
            (
                "one member holds up a packet for many",
                Held(&["a_group_gets_a_packet_each_and_others_nothing"]),
            ),
        ],
    ),
    (
        "From end to end",
        &[
            (
                "a packet is acknowledged to its client when it is queued for the link",
                Rows(&["AcknowledgedWhenReceived"]),
            ),
            (
                "a frame is acknowledged when it was read",
                Rows(&["AcknowledgedBeforeTaken"]),
            ),
            (
                "frames are sent again from what was acknowledged",
                Rows(&["LinkReplayFromAcknowledged"]),
            ),
            (
                "a packet for a group does not count for a member that is away",
                Rows(&["AwayMemberSkipped"]),
            ),
            (
                "a ledger forgets superseded packets",
                Rows(&["LedgerForgetsSuperseded"]),
            ),
            (
                "a frame that comes twice is told twice",
                Rows(&["RepeatsAreTold"]),
            ),
        ],
    ),
    (
        "Kicks",
        &[
            (
                "a kick during a cold attempt is forgotten",
                Held(&["a_client_that_was_kicked_while_it_was_away_hears_of_it"]),
            ),
            (
                "a client that is away does not hear the code",
                Rows(&["EndNotRemembered"]),
            ),
        ],
    ),
    (
        "Restart and move",
        &[
            (
                "what was saved is taken up twice",
                Held(&["a_file_is_used_once_even_if_somebody_puts_a_copy_back"]),
            ),
            (
                "a displaced edge is heard",
                Rows(&["DisplacedIsHeard", "DisplacedGrants"]),
            ),
            (
                "a home goes to an edge that is not later",
                Rows(&["LowerTermTaken"]),
            ),
            (
                "a ticket of a session that has ended is good",
                Held(&["how_one_ended_that_had_moved_is_told_where_it_ended"]),
            ),
            (
                "the backend is asked before the first record up has opened",
                Held(&["an_early_record_that_does_not_open_or_is_wrong_changes_nothing"]),
            ),
        ],
    ),
    (
        "What the review adds",
        &[
            (
                "an owner is locked out by one lost RESUMED",
                Held(&[
                    "after_any_schedule_the_owner_is_back_within_three_attempts_and_nothing_is_lost",
                ]),
            ),
            (
                "random bytes are used twice",
                Rows(&[
                    "WelcomeEntropyTwice",
                    "AnswerEntropyTwice",
                    "ClaimEntropyTwice",
                ]),
            ),
            (
                "ACKs go on from the connection before",
                Rows(&["AcksGoOn", "AckTellsTotal"]),
            ),
            (
                "a Claim that says what was received trims the ring",
                Rows(&["RingTrimmedByClaim"]),
            ),
            (
                "a living session is given up without a word of its edge",
                Rows(&["StaleClaimEndsSession"]),
            ),
            (
                "a thief hides",
                Rows(&[
                    "ThiefIgnored",
                    "MarksForgottenAtResume",
                    "OwnMarksForgotten",
                ]),
            ),
            (
                "a client does not go on from the counter that it was told",
                Rows(&["LowerCounterOfClient", "NoCounterAhead", "HighestNotTold"]),
            ),
            (
                "one bound is for what waits and for what was sent",
                Rows(&["AwayRoomWithoutRing"]),
            ),
            (
                "what is said last does not arrive",
                Rows(&["KickNotTold", "GoodbyeNotAnswered"]),
            ),
            (
                "a record of many small packets costs more than it is counted for",
                Held(&[
                    "a_flood_of_tiny_records_is_paced",
                    "each_record_and_each_packet_counts_for_the_pace",
                ]),
            ),
            (
                "connections beyond a limit take all of the pace",
                Rows(&["BeyondTakesAllPace"]),
            ),
            (
                "a limit of its source keeps a client from its session",
                Rows(&["ClaimBeyondRejected"]),
            ),
            (
                "claimants make room for those that have claimed nothing",
                Held(&["those_accepted_for_a_claim_alone_go_before_all_others"]),
            ),
            (
                "takeovers of an owner are used up for ever",
                Rows(&["TakeoversNeverRegained", "NumberedTakeoverRefused"]),
            ),
            (
                "ends of which clients were told wash the others out",
                Held(&["none_makes_room_at_an_end_that_is_saved"]),
            ),
            (
                "the window for a first record has no end of its own",
                Held(&["a_claim_that_stalls_does_not_lock_the_owner_out"]),
            ),
        ],
    ),
];

/// The invariants.
const INVARIANTS: &[(&str, By)] = &[
    (
        "no connection changes its version, and no session is resumed under another one",
        By::Rules(&["V0", "V3"]),
    ),
    (
        "an edge of version 2 sends no byte to a client of version 3",
        By::Tests(&["a_client_falls_back_only_where_version_3_was_met_by_silence"]),
    ),
    (
        "no point is multiplied for a connection that an earlier check refuses",
        By::Tests(&["joins_have_a_pace_and_wait_for_it"]),
    ),
    (
        "a session begins once, and only after a record has opened",
        By::Rules(&["S3", "S8", "K4"]),
    ),
    (
        "no two sessions share a key, and no key seals two values with one nonce",
        By::Rules(&["V0"]),
    ),
    (
        "a bit that is changed in a flight ends the attempt",
        By::Rules(&["V0", "V20"]),
    ),
    ("a flight is accepted once", By::Rules(&["V2"])),
    (
        "nothing changes before the first early record has opened",
        By::Rules(&["V2", "V3"]),
    ),
    ("the highest counter never falls", By::Rules(&["V2", "V3"])),
    (
        "the owner is back at once after any number of attempts of others",
        By::Rules(&["V11"]),
    ),
    (
        "what an edge keeps cannot open the connection before",
        By::Tests(&["the_chain_goes_forward_by_a_bounded_number_of_links"]),
    ),
    (
        "numbers come one behind the other, with gaps and superseded runs as the only holes",
        By::Rules(&["V1", "V8", "V17", "S9", "S10"]),
    ),
    (
        "both ends know the same holes",
        By::Rules(&["V8", "V10", "V17"]),
    ),
    ("no packet comes twice", By::Rules(&["V1", "S9", "S10"])),
    (
        "each number is acknowledged, superseded, given up or open, at every step",
        By::Rules(&["V10"]),
    ),
    (
        "a ring stays within its bounds, and is empty in the end",
        By::Rules(&["V7", "V12"]),
    ),
    (
        "a replay begins with the next packet",
        By::Rules(&["V1", "V5"]),
    ),
    (
        "a stream means the same wherever it is cut",
        By::Tests(&["a_stream_means_the_same_in_any_pieces"]),
    ),
    (
        "no more than a record is held that is not verified",
        By::Rules(&["V21"]),
    ),
    (
        "an end that stops a client is followed by no attempt",
        By::Rules(&["V4"]),
    ),
    (
        "a client does not come back before its time",
        By::Rules(&["V15"]),
    ),
    (
        "who is asked to leave comes back spread over time",
        By::Rules(&["V15"]),
    ),
    (
        "a goodbye that is answered leaves nothing in doubt",
        By::Rules(&["V13"]),
    ),
    (
        "the last value of each key comes, and values of a key never go back in time",
        By::Rules(&["V17"]),
    ),
    (
        "packets come in the order of their numbers",
        By::Rules(&["V1", "S10"]),
    ),
    (
        "superseded, delivered and given up make up what was numbered",
        By::Rules(&["V10", "V17"]),
    ),
    (
        "the picture of a backend is that of its edge",
        By::Rules(&["K5"]),
    ),
    ("JOINED and ENDED come once", By::Rules(&["K4"])),
    (
        "who is a member in its place of the stream gets the packet",
        By::Rules(&["K3", "K8"]),
    ),
    (
        "a packet that many share is freed with the last of them",
        By::Tests(&["one_copy_and_the_entries_are_what_is_counted"]),
    ),
    (
        "one slow member changes nothing for others",
        By::Rules(&["K3", "K12"]),
    ),
    (
        "with credit no session ends for want of room",
        By::Rules(&["V16", "K9"]),
    ),
    (
        "a client that is paused costs others nothing",
        By::Rules(&["K10"]),
    ),
    ("no more is settled than was sent", By::Rules(&["K6"])),
    (
        "over ends of links and processes each packet comes once",
        By::Rules(&["K1", "K3", "K7"]),
    ),
    (
        "ledgers agree, and nothing waits in the end",
        By::Rules(&["K12"]),
    ),
    (
        "a kicked client sees its code or nothing",
        By::Rules(&["V9", "K9"]),
    ),
    ("no session outlives its kick", By::Rules(&["V3", "S13"])),
    (
        "frames of an id are taken from one link at a time",
        By::Tests(&["a_stream_that_is_read_after_the_next_one_of_its_edge_is_fenced"]),
    ),
    (
        "what was saved is used once",
        By::Tests(&["a_file_is_used_once_even_if_somebody_puts_a_copy_back"]),
    ),
    (
        "no packet is lost or comes twice over crash, pause and move",
        By::Tests(&["a_client_comes_back_at_another_edge_and_nothing_is_lost_or_comes_twice"]),
    ),
    (
        "on a network without faults the owner is back within three attempts",
        By::Rules(&["V11"]),
    ),
    (
        "a flood keeps no client from its session",
        By::Rules(&["V20"]),
    ),
];

/// Returns the names of all tests of the crates whose behaviour is planned here. Only attributes and comments may be between `#[test]`, or
/// `#[tokio::test]`, and its function.
fn tests() -> BTreeSet<String> {
    fn look(folder: &Path, names: &mut BTreeSet<String>) {
        for entry in fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                look(&path, names);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).expect("text");
                let mut is_test = false;
                for line in text.lines().map(str::trim_start) {
                    is_test |= line.starts_with("#[test]") || line.starts_with("#[tokio::test");
                    if line.starts_with("#[") || line.starts_with("//") {
                        continue;
                    }
                    let name = line.trim_start_matches("async ").strip_prefix("fn ");
                    if let Some(name) = name.filter(|_| is_test) {
                        let end = name.find(['(', '<']).unwrap_or(name.len());
                        names.insert(name[..end].to_owned());
                    }
                    is_test = false;
                }
            }
        }
    }
    let mut names = BTreeSet::new();
    for part in ["core", "driver", "app", "conformance"] {
        look(&workspace().join(part), &mut names);
    }
    names
}

#[test]
fn each_bug_that_was_wanted_has_its_rows_or_says_why_not() {
    let table = Table::read(workspace()).unwrap_or_else(|fault| panic!("{fault}"));
    let tests = tests();
    let has_row = |row: &str| table.bugs.iter().any(|bug| bug.name == row);
    for (topic, bugs) in BUGS {
        for (what, why) in *bugs {
            match why {
                Rows(rows) => {
                    assert!(!rows.is_empty(), "{topic}: {what}");
                    for row in *rows {
                        assert!(has_row(row), "{topic}: {what}: there is no row {row}");
                    }
                }
                Gone(why) => assert!(!why.is_empty(), "{topic}: {what}"),
                Held(by) => {
                    assert!(!by.is_empty(), "{topic}: {what}");
                    for test in *by {
                        assert!(tests.contains(*test), "{topic}: {what}: no test {test}");
                    }
                }
            }
        }
    }
}

#[test]
fn each_invariant_has_a_rule_that_judges_it_or_a_test() {
    let engines = [sim::model::RULES, sim::v3::RULES, sim::link3::RULES];
    let has_rule = |rule: &str| engines.concat().iter().any(|(id, _)| *id == rule);
    let tests = tests();
    for (what, by) in INVARIANTS {
        let (names, is_known): (_, &dyn Fn(&str) -> bool) = match by {
            By::Rules(rules) => (*rules, &has_rule),
            By::Tests(by) => (*by, &|test| tests.contains(test)),
        };
        assert!(!names.is_empty(), "{what}");
        for name in names {
            assert!(is_known(name), "{what}: there is no {name}");
        }
    }
}
