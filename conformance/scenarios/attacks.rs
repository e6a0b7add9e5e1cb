//! Strangers who try to take over somebody else's session. (SPEC 5; the published edge fails most of these)
//!
//! Each attack is made on a session that is away, with a packet waiting for it, and on one that is connected. Afterwards the owner finds
//! everything unchanged, and the backend has received nothing.

use std::time::{Duration, Instant};

use conformance::{
    Challenged, Client, Frames, Incoming, Rig, Session, bytes_of, handshake, random,
};
use voltlane_core::ClientId;
use voltlane_core::v2::packets::Handshake;

use super::{HEALING, rig};

/// The reply delay. (SPEC 5.1(b))
const REPLY_DELAY: Duration = Duration::from_millis(1);

/// Runs an attack on a session that is away and on one that is connected, and checks that it changed nothing.
fn withstand(attack: impl Fn(&mut Rig, &Session)) {
    let mut rig = rig(HEALING);
    let session = rig.join().leave();
    rig.link.send(session.id, b"missed");
    attack(&mut rig, &session);
    rig.fence();
    let mut owner = rig.resume(session);
    owner.expect(b"missed");

    let session = owner.session.clone();
    attack(&mut rig, &session);
    rig.round_trip(&mut owner, b"undisturbed");
    rig.fence();
    owner.leave();
    rig.stop();
}

#[test]
fn the_challenge_sent_back() {
    withstand(|rig, session| {
        let challenged = session.claim(rig.address());
        let reflected = challenged.challenge.clone();
        challenged.respond(&reflected).expect_fin();
    });
}

#[test]
fn a_challenge_of_an_earlier_attempt_sent_back() {
    withstand(|rig, session| {
        let earlier = session.claim(rig.address()).challenge;
        let challenged = session.claim(rig.address());
        challenged.respond(&earlier).expect_fin();
    });
}

#[test]
fn responses_of_every_length_but_the_right_one() {
    withstand(|rig, session| {
        for length in (0..=200).filter(|&length| length != 72) {
            let challenged = session.claim(rig.address());
            let mut response = session.response_to(&challenged.challenge);
            response.extend(bytes_of(1, 200));
            let mut frames = challenged.respond(&response[..length]);
            // A frame above the handshake limit ends the connection at its length.
            frames.expect_closed();
        }
    });
}

#[test]
fn responses_with_a_bit_flipped() {
    withstand(|rig, session| {
        for byte in 0..72 {
            let challenged = session.claim(rig.address());
            let mut response = session.response_to(&challenged.challenge);
            response[byte] ^= 1 << (byte % 8);
            challenged.respond(&response).expect_fin();
        }
    });
}

#[test]
fn a_good_response_used_again() {
    let mut rig = rig(HEALING);
    let session = rig.join().leave();
    let challenged = session.claim(rig.address());
    let response = session.response_to(&challenged.challenge);
    let mut owner = challenged.respond(&response);
    assert_eq!(owner.incoming(), Incoming::Body(vec![0]));
    rig.link.expect_resumed(session.id);
    // While its owner is connected, and afterwards.
    session.claim(rig.address()).respond(&response).expect_fin();
    owner.finish();
    owner.expect_fin();
    session.claim(rig.address()).respond(&response).expect_fin();
    rig.fence();
    rig.resume(session);
}

#[test]
fn the_response_to_the_challenge_of_another_connection() {
    withstand(|rig, session| {
        let one = session.claim(rig.address());
        let other = session.claim(rig.address());
        let for_the_other = session.response_to(&other.challenge);
        one.respond(&for_the_other).expect_fin();
    });
}

#[test]
fn the_response_of_another_session() {
    withstand(|rig, session| {
        let stranger = rig.join().leave();
        let own = stranger.claim(rig.address());
        let response = stranger.response_to(&own.challenge);
        session.claim(rig.address()).respond(&response).expect_fin();
        // Anything that the stranger seals with its own key.
        let mut sealed = Vec::new();
        let key = stranger.shared_key();
        key.seal_with_nonce(&random::<32>(), &random(), &mut sealed);
        session.claim(rig.address()).respond(&sealed).expect_fin();
    });
}

#[test]
fn nothing_sealed_but_the_challenge_itself() {
    withstand(|rig, session| {
        // With the key but without the challenge, every content that makes 72 bytes is wrong except the right one.
        for plain in [[0; 32], random()] {
            let mut sealed = Vec::new();
            let key = session.shared_key();
            key.seal_with_nonce(&plain, &random(), &mut sealed);
            session.claim(rig.address()).respond(&sealed).expect_fin();
        }
    });
}

#[test]
fn a_second_try_on_the_same_challenge() {
    withstand(|rig, session| {
        let mut challenged = session.claim(rig.address());
        let good = session.response_to(&challenged.challenge);
        let mut bytes = handshake::encoded(Handshake::ChallengeResponse(&[1; 72]));
        bytes.extend(handshake::encoded(Handshake::ChallengeResponse(&good)));
        bytes.extend(handshake::encoded(Handshake::Ping));
        challenged.frames.write(&bytes);
        challenged.frames.expect_fin();
    });
}

#[test]
fn a_response_before_the_challenge_came() {
    withstand(|rig, session| {
        let earlier = session.claim(rig.address());
        let response = session.response_to(&earlier.challenge);
        let mut frames = Frames::connect(rig.address());
        handshake::hello(&mut frames);
        let mut bytes = handshake::encoded(Handshake::ClientId(session.id));
        bytes.extend(handshake::encoded(Handshake::ChallengeResponse(&response)));
        frames.write(&bytes);
        // Whether or not the Challenge is still sent, the answer is the same for all ids: an orderly end.
        let (bodies, end) = frames.rest();
        assert!(bodies.len() <= 1, "{bodies:?}");
        assert_eq!(end, Incoming::Fin { unfinished: 0 });
    });
}

#[test]
fn twenty_abandoned_challenges_do_not_lock_the_owner_out() {
    withstand(|rig, session| {
        let abandoned: Vec<_> = (0..20).map(|_| session.claim(rig.address())).collect();
        let owner = Client::join(rig.address());
        owner.leave();
        drop(abandoned);
    });
    let mut rig = rig(HEALING);
    let session = rig.join().leave();
    rig.link.send(session.id, b"missed");
    let open: Vec<Challenged> = (0..20).map(|_| session.claim(rig.address())).collect();
    let mut owner = rig.resume(session);
    owner.expect(b"missed");
    drop(open);
    rig.round_trip(&mut owner, b"back");
}

#[test]
fn a_claim_that_stalls_does_not_lock_the_owner_out() {
    let mut rig = rig("");
    let session = rig.join().leave();
    let mut stalled = session.claim(rig.address());
    let mut owner = rig.resume(session.clone());
    // The stalled attempt gets a wrong response, which has no effect.
    let mut sealed = Vec::new();
    session
        .shared_key()
        .seal_with_nonce(&[9; 32], &random(), &mut sealed);
    stalled
        .frames
        .write(&handshake::encoded(Handshake::ChallengeResponse(&sealed)));
    stalled.frames.expect_fin();
    rig.round_trip(&mut owner, b"back");
}

/// However many claims of one session are open, each has its own challenge, and the oldest is as good as the newest.
#[test]
fn no_claim_makes_another_ones_challenge_worthless() {
    let mut rig = rig("");
    let session = rig.join().leave();
    let open: Vec<_> = (0..50).map(|_| session.claim(rig.address())).collect();
    for challenged in open.into_iter().step_by(49) {
        let response = session.response_to(&challenged.challenge);
        let mut frames = challenged.respond(&response);
        assert_eq!(frames.incoming(), Incoming::Body(vec![0]));
        rig.link.expect_resumed(session.id);
    }
}

/// Unknown, ended, expired, wrong: the same bytes at the same points, and never before the delay.
#[test]
fn an_id_that_names_no_session_looks_like_a_wrong_proof() {
    let mut rig = rig(&format!(
        "{HEALING}clients.stale_timeout_secs = 1\nclients.stale_reap_interval_secs = 0\n"
    ));
    let known = rig.join();
    let kicked = rig.join();
    rig.link.kick(kicked.id());
    rig.link.expect_failure(kicked.id(), "kicked");
    let expired = rig.join().leave();
    rig.link.expect_failure(expired.id, "expired");
    let never = ClientId::from_u64(known.id().as_u64() ^ 1);
    let mut early = Vec::new();
    for id in [
        known.id(),
        kicked.id(),
        expired.id,
        never,
        ClientId::from_u64(0),
    ] {
        for response in [[5; 72].to_vec(), vec![]] {
            let mut frames = Frames::connect(rig.address());
            handshake::hello(&mut frames);
            let begin = Instant::now();
            let challenged = Challenged::claim_after_hello(frames, id);
            if begin.elapsed() < REPLY_DELAY {
                early.push(id);
            }
            assert_eq!(challenged.challenge.len(), 72, "{id}");
            challenged.respond(&response).expect_fin();
        }
        // An echoed decoy is refused as well.
        let challenged = Challenged::claim(Frames::connect(rig.address()), id);
        let reflected = challenged.challenge.clone();
        challenged.respond(&reflected).expect_fin();
    }
    for gone in [&kicked.session, &expired] {
        let challenge = gone.claim(rig.address()).challenge;
        assert!(gone.shared_key().open(&challenge).is_err(), "a decoy");
    }
    // The edge counts from its reading of the clock, after which it may be suspended before it reads the claim: once, but not twice.
    assert!(early.len() <= 1, "{early:?}");
    rig.fence();
}

#[test]
fn guessing_ids_finds_nothing_and_disturbs_nobody() {
    let mut rig = rig(HEALING);
    let mut client = rig.join();
    let id = client.id().as_u64();
    for n in 1..=300_u64 {
        let guess = ClientId::from_u64(id.wrapping_add(n));
        Challenged::claim(Frames::connect(rig.address()), guess)
            .respond(&bytes_of(n, 72))
            .expect_fin();
    }
    rig.round_trip(&mut client, b"undisturbed");
    rig.fence();
}

/// Attempts do not extend a session's deadline: it expires while many are made.
#[test]
fn attempts_do_not_touch_the_timer() {
    let mut rig = rig("clients.stale_timeout_secs = 1\nclients.stale_reap_interval_secs = 0\n");
    let begin = Instant::now();
    let session = rig.join().leave();
    let address = rig.address();
    std::thread::scope(|scope| {
        let ended = scope.spawn(|| {
            rig.link.expect_failure(session.id, "expired");
            begin.elapsed()
        });
        while !ended.is_finished() {
            let challenged = session.claim(address);
            challenged.respond(&[3; 72]).expect_fin();
        }
        let after = ended.join().expect("no panic");
        assert!(after >= Duration::from_secs(1), "{after:?}");
    });
}

#[test]
fn random_responses() {
    withstand(|rig, session| {
        for n in 0..50 {
            let challenged = session.claim(rig.address());
            challenged.respond(&bytes_of(n, 72)).expect_fin();
        }
    });
}
