//! Bugs on purpose, for the simulator's check of itself: one is chosen for a thread, and must be found.
//!
//! Without the feature `planted` nothing of this is compiled: `planted!(…)` is the literal `false`. With it a build
//! without debug assertions does not compile, so that none can be shipped.

#[cfg(all(feature = "planted", not(debug_assertions)))]
compile_error!(
    "the feature `planted` puts bugs into the core: it is for tests, never for a release"
);

/// Whether this bug is planted in this thread.
#[cfg(feature = "planted")]
macro_rules! planted {
    ($bug:ident) => {
        crate::planted::is($crate::planted::Bug::$bug)
    };
}

/// No bug is planted.
#[cfg(not(feature = "planted"))]
macro_rules! planted {
    ($bug:ident) => {
        false
    };
}

pub(crate) use planted;

#[cfg(feature = "planted")]
pub use bugs::{Bug, is, plant};

#[cfg(feature = "planted")]
mod bugs {
    use std::cell::Cell;

    thread_local! {
        static PLANTED: Cell<Option<Bug>> = const { Cell::new(None) };
    }

    /// From now on this thread's machines have `bug`, or none.
    pub fn plant(bug: Option<Bug>) {
        PLANTED.set(bug);
    }

    /// Whether this bug is planted in this thread.
    #[must_use]
    pub fn is(bug: Bug) -> bool {
        PLANTED.get() == Some(bug)
    }

    macro_rules! bugs {
        (
            $($(#[$doc:meta])* $bug:ident,)*
            @shards
            $($(#[$shards_doc:meta])* $shards:ident,)*
            @crowds
            $($(#[$crowds_doc:meta])* $crowds:ident,)*
        ) => {
            /// What can be wrong. The first twelve are what the published edge does (SPEC 14).
            #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
            pub enum Bug {
                $($(#[$doc])* $bug,)*
                $($(#[$shards_doc])* $shards,)*
                $($(#[$crowds_doc])* $crowds,)*
            }

            impl Bug {
                /// All that one edge alone can have.
                pub const ALL: &'static [Bug] = &[$(Bug::$bug,)*];

                /// Those that take several shards (SPEC 9.9).
                pub const OF_SHARDS: &'static [Bug] = &[$(Bug::$shards,)*];

                /// Those that take a crowd to be seen (SPEC 10.4, 10.5).
                pub const OF_CROWDS: &'static [Bug] = &[$(Bug::$crowds,)*];
            }
        };
    }

    bugs! {
        /// A challenge that comes back unchanged is a response.
        EchoAccepted,
        /// What comes up after a resume carries another id.
        WrongTagAfterResume,
        /// A takeover gives up what was queued for the client.
        TakeoverLosesQueue,
        /// A frame of the backend that is too short is a panic.
        ShortFramePanics,
        /// A response that is too short is a panic.
        ShortResponsePanics,
        /// A failed attempt costs the session its queue.
        FailedProofDropsQueue,
        /// A claim costs the session its connection.
        ClaimDetaches,
        /// A kick does nothing.
        KickIgnored,
        /// Handshakes may last for ever.
        HandshakeNeverTimesOut,
        /// A client's queue is bounded in packets only.
        ClientQueueBytesUnbounded,
        /// The backend is not read while somebody waits for the link.
        LinkReadStops,
        /// The backend does not hear that a client is back.
        ResumedNotTold,
        /// Every response that comes is right.
        AnyProofAccepted,
        /// All challenges are alike.
        ConstantChallenge,
        /// A challenge that newer claims made void still counts.
        VoidChallengeCounts,
        /// The old connection stays after a takeover.
        TakeoverKeepsOld,
        /// After a takeover the rest of a cut packet is sent.
        TakeoverForgetsRewind,
        /// After a drop the rest of a cut packet is sent.
        DetachForgetsRewind,
        /// Takeovers never wait.
        TakeoversUnbounded,
        /// A session past its deadline may be resumed until it is reaped.
        ExpiredMayResume,
        /// A session cannot be resumed in the second half of its time.
        ExpiresEarly,
        /// A kick of a client that is away does nothing.
        KickOfAwayIgnored,
        /// A kick throws away what was queued.
        KickDropsOutput,
        /// A packet for an unknown id has no answer.
        UnknownUnanswered,
        /// A length above the bound leaves the link as it is.
        LinkLengthIgnored,
        /// An unfinished frame of a lost link begins the next one.
        PartialFrameSurvivesLink,
        /// A packet that a lost link cut goes on in its middle.
        CutPacketNotResent,
        /// The loss of the link ends sessions.
        LinkLossEndsSessions,
        /// Frames may last for ever.
        FrameNeverTimesOut,
        /// The write deadline does not begin anew with progress.
        WriteDeadlineNotRenewed,
        /// The edge asks for the time one millisecond late.
        DeadlineLate,
        /// A challenge is written at once.
        ReplyAtOnce,
        /// One packet more than the bound waits for a client.
        ClientQueueOffByOne,
        /// One packet more than the bound waits for a client that is away.
        MissedQueueOffByOne,
        /// One packet more than the bound waits for the backend.
        LinkQueueOffByOne,
        /// What does not fit is dropped, and nobody hears of it.
        OverflowDropsPacket,
        /// Who has to wait for the link does not get in line.
        LineForgotten,
        /// What has to wait for the link is dropped.
        HeldBytesLost,
        /// What waits for the link is dropped with its connection.
        HeldFramesLostAtDetach,
        /// The backend does not hear that a session has ended.
        EndNotTold,
        /// The backend hears twice that a session has ended.
        EndToldTwice,
        /// At the cap of sessions away the newest one goes.
        CapEndsNewest,
        /// The end of a connection ends its session.
        DetachEnds,
        /// A frame of one byte more than the bound is taken.
        FrameBoundOffByOne,
        /// A handshake packet may be of any length.
        HandshakeBodyUnbounded,
        /// Version 1 is taken for version 2.
        OldVersionTaken,
        /// The adapter does not hear that a connection has something to say.
        WakeupLost,
        /// What was missed comes before the Ping.
        PingAfterMissed,
        /// An empty packet is no packet.
        EmptyPacketDropped,
        /// A handshake that ends is counted on.
        HalfOpenLeaks,
        /// A byte is lost where a frame comes in two pieces.
        ByteLostAtSplit,
        /// Clients are read only while there is a backend.
        ReadStopsWithoutLink,
        /// An edge that ends waits for what never comes.
        ShutdownNeverEnds,
        /// An edge that ends does not wait for what was queued for who was kicked.
        ShutdownForgetsKicked,
        /// An edge that ends reads on.
        ShutdownReadsOn,
        /// An edge that ends leaves those open that have proven and not yet said their Ping.
        ShutdownLeavesHalfOpen,
        /// An edge that ends tells the backend of it.
        ShutdownTellsBackend,
        /// What a source is refused uses up the pace of all.
        RefusedEatPace,
        /// A source may have one connection more.
        SourceOffByOne,
        /// An IPv6 /48 is no source.
        WideSourceUnbounded,
        /// A source may come as fast as it likes.
        SourcePaceUnbounded,
        /// A penalty acts at once.
        PenaltyActsEarly,
        /// Connections of a source that are gone are counted on.
        SourceLeaks,
        /// Any number of sessions of a source may be away.
        StaleOfSourceUnbounded,
        /// Where the half-open places are full, the newcomer is refused.
        RoomNotMade,
        /// Claimants may hold all half-open places.
        ClaimantsUnbounded,
        /// What is only to be reported is refused.
        ReportRefuses,
        /// One session more than there may be begins.
        SessionsOffByOne,
        /// The account keeps what a connection held when it ended.
        AccountLeaks,
        /// The account does not see what a client queue gives out.
        AccountOnlyGrows,
        /// A takeover is not counted.
        TakeoverNotCounted,
        /// Who is away is announced as well.
        AnnouncesAway,
        /// Only the first session is announced.
        AnnouncesFirstOnly,
        /// A client beyond its pace is read on.
        PaceIgnored,
        /// A client that was beyond its pace is never read again.
        PacedForEver,
        /// A client may be beyond its pace for ever.
        PaceHasNoEnd,
        /// A client may be silent for ever.
        SilenceNeverEnds,
        /// A failed attempt gives a session that is away its time anew.
        FailedProofRenewsDeadline,
        /// A failed attempt uses up one of the session's takeovers.
        FailedProofTakesToken,
        /// The bounds of clients stay as they are when memory is short.
        NeverSqueezed,
        /// Any address may be a proxy.
        StrangeProxyTaken,
        /// Limits on sources hold for the proxy, and not for whom its header names.
        HeaderIgnored,
        /// The handshake deadline begins anew with the header.
        HeaderDelaysDeadline,

        @shards
        /// A claim of another shard's session is one of an unknown id.
        ClaimNotHandedOver,
        /// The shard that takes a connection in counts it twice.
        HandoverCountedTwice,
        /// The shard that hands a connection over counts it on.
        HandoverHalfOpenLeaks,
        /// A connection that is handed over is released from its source, and again at its end.
        HandoverReleasesSource,
        /// What was not written yet to a connection that is handed over is dropped.
        HandoverLosesReply,
        /// What waits in the trunk goes with the link.
        TrunkDropsKept,
        /// A large packet overtakes in the trunk.
        TrunkReorders,
        /// The trunk does not wait for the announcements of all shards.
        TrunkAnnouncesLate,
        /// An unfinished frame of a shard's stream begins the next one.
        TrunkFragmentSurvives,
        /// What a shard announced outlives the link.
        TrunkKeepsAnnouncements,
        /// What comes for a shard goes to the first.
        FrameToFirstShard,
        /// What names no shard is dropped.
        StrangeFrameDropped,
        /// A new link is read before all shards are done with the one before.
        LinkReadTooEarly,
        /// What waits for a shard goes with the link.
        FramesForShardDropped,
        /// A shard that does not read holds nobody up.
        SlowShardUnbounded,
        /// Shards are read whatever waits for the backend.
        ShardsReadUnbounded,
        @crowds
        /// Who came last to the line for the link is served first.
        LineIsAStack,
        /// Nobody fails, whatever is held.
        MemoryNeverFreed,
        /// What the backend has begun to say counts for nothing until it is whole.
        BackendFrameUncounted,
    }
}
