//! Tests that the sockets keep the contract of the driver's traits. Each runtime includes them for its own sockets.

use std::future::{Future, poll_fn};
use std::io::{self, IoSlice, Read as _, Write as _};
use std::net::{self, Shutdown};
use std::pin::pin;
use std::process::Command;
use std::task::Poll;
use std::thread;
use std::time::Duration;

use conformance::{Runtime, alone_in_a_network, closed_port};
use rustix::event::{PollFd, PollFlags};
use voltlane_core::ClientId;
use voltlane_core::edge::{Edge, EdgeConfig};
use voltlane_core::keys::KeyPair;
use voltlane_driver::backend::{self, Backend, Event, Sent};
use voltlane_driver::client::{self, Client, ClientConfig, Means, Options, Why};
use voltlane_driver::{
    Connector as _, EdgeDriver, Listener as _, PeerEnd, SocketOptions, Stream, Timer as _,
};

/// Longer than anything here takes, so a hang is reported as a failure.
const BOUND: Duration = Duration::from_secs(20);

/// What the system reports when the peer has closed its direction.
#[cfg(target_os = "linux")]
const END: PollFlags = PollFlags::RDHUP;
#[cfg(not(target_os = "linux"))]
const END: PollFlags = PollFlags::HUP;

/// Instantiates each of the tests for one runtime.
macro_rules! tests_of {
    ($runtime:ty) => {
        crate::sockets::tests_of! { $runtime =>
            bytes_pass_and_the_end_is_told
            a_read_that_fills_its_buffer_is_followed_by_another
            an_end_that_came_with_the_last_bytes_is_told
            bytes_that_precede_a_stream_are_read
            a_writer_that_found_no_room_goes_on_when_there_is_some
            an_aborted_stream_is_reset
            how_a_peer_ended_is_known_before_all_is_read
            all_who_wait_are_accepted
            an_unreachable_address_is_an_error
            a_connection_to_itself_is_an_error
            an_edge_is_not_its_own_backend
            a_client_pauses_as_it_was_told
            an_address_that_answers_nothing_is_passed
            a_peer_that_rests_is_waited_for
            a_peer_that_is_gone_is_given_up
            a_peer_that_went_while_it_rested_is_given_up
        }
    };
    ($runtime:ty => $($test:ident)*) => {
        $(#[test]
        fn $test() {
            crate::sockets::$test::<$runtime>();
        })*
    };
}
pub(crate) use tests_of;

type StreamOf<R> = <<R as Runtime>::Connector as voltlane_driver::Connector>::Stream;
type AcceptedOf<R> = <<R as Runtime>::Listener as voltlane_driver::Listener>::Stream;

async fn pair<R: Runtime>(bind: &str) -> (StreamOf<R>, AcceptedOf<R>) {
    let (mut listener, address) = R::bind(bind.into(), SocketOptions::default())
        .await
        .expect("a free port");
    let mut connector = R::connector(address.to_string(), SocketOptions::default());
    let connected = connector.connect().await.expect("somebody listens");
    let (accepted, source) = poll_fn(|cx| listener.poll_accept(cx))
        .await
        .expect("somebody connects");
    assert_eq!(source.is_ipv4(), address.is_ipv4());
    (connected, accepted)
}

async fn write(stream: &mut impl Stream, parts: [&[u8]; 2]) -> io::Result<usize> {
    poll_fn(|cx| stream.poll_write(cx, &parts.map(IoSlice::new))).await
}

async fn read(stream: &mut impl Stream, buf: &mut [u8]) -> io::Result<usize> {
    poll_fn(|cx| stream.poll_read(cx, buf)).await
}

pub(crate) fn bytes_pass_and_the_end_is_told<R: Runtime>() {
    within_bound::<R>(async {
        for bind in ["127.0.0.1:0", "[::1]:0", "::1:0", "localhost:0"] {
            let (mut a, mut b) = pair::<R>(bind).await;
            let mut buf = [0; 64];
            assert_eq!(
                write(&mut a, [b"one ", b"segment"]).await.expect("written"),
                11
            );
            assert_eq!(read(&mut b, &mut buf).await.expect("read"), 11);
            assert_eq!(&buf[..11], b"one segment");
            // Drained: the waker is registered and nothing is ready.
            assert!(is_pending(&mut b, &mut buf).await);

            poll_fn(|cx| a.poll_close(cx)).await.expect("closed");
            assert_eq!(read(&mut b, &mut buf).await.expect("the end"), 0);
            // Only one direction was closed.
            assert_eq!(write(&mut b, [b"late", b""]).await.expect("written"), 4);
            assert_eq!(read(&mut a, &mut buf).await.expect("read"), 4);
        }
    });
}

pub(crate) fn a_read_that_fills_its_buffer_is_followed_by_another<R: Runtime>()
where
    StreamOf<R>: Stream<Parcel = net::TcpStream>,
{
    within_bound::<R>(async {
        let (mut a, mut b, kernel) = watched_pair::<R>();
        let mut buf = [0; 4];
        assert!(is_pending(&mut b, &mut buf).await);
        // All of it is reported once.
        a.write_all(b"twelve bytes").expect("written");
        wait_for(&kernel, PollFlags::IN);
        for part in [b"twel", b"ve b", b"ytes"] {
            assert_eq!(read(&mut b, &mut buf).await.expect("read"), 4);
            assert_eq!(&buf, part);
        }
        assert!(is_pending(&mut b, &mut buf).await);
    });
}

pub(crate) fn an_end_that_came_with_the_last_bytes_is_told<R: Runtime>()
where
    StreamOf<R>: Stream<Parcel = net::TcpStream>,
{
    within_bound::<R>(async {
        let (mut a, mut b, kernel) = watched_pair::<R>();
        let mut buf = [0; 64];
        assert!(is_pending(&mut b, &mut buf).await);
        a.write_all(b"last").expect("written");
        a.shutdown(Shutdown::Write).expect("closed");
        // Both have arrived before the next read, so no event comes between them.
        wait_for(&kernel, END);
        assert_eq!(read(&mut b, &mut buf).await.expect("read"), 4);
        for _ in 0..2 {
            assert_eq!(read(&mut b, &mut buf).await.expect("the end"), 0);
        }
    });
}

pub(crate) fn bytes_that_precede_a_stream_are_read<R: Runtime>()
where
    StreamOf<R>: Stream<Parcel = net::TcpStream>,
{
    within_bound::<R>(async {
        let (mut a, mut b) = std_pair();
        let mut buf = [0; 64];
        // As when a connection moves between shards, more than once.
        for _ in 0..3 {
            a.write_all(b"before").expect("written");
            wait_for(&b, PollFlags::IN);
            let mut stream = StreamOf::<R>::unpack(b).expect("watched");
            assert_eq!(read(&mut stream, &mut buf).await.expect("read"), 6);
            assert!(is_pending(&mut stream, &mut buf).await);
            a.write_all(b"after").expect("written");
            assert_eq!(read(&mut stream, &mut buf).await.expect("read"), 5);
            b = stream.pack().expect("let go");
        }
    });
}

pub(crate) fn a_writer_that_found_no_room_goes_on_when_there_is_some<R: Runtime>()
where
    StreamOf<R>: Stream<Parcel = net::TcpStream>,
{
    within_bound::<R>(async {
        let (mut a, b) = std_pair();
        let mut b = StreamOf::<R>::unpack(b).expect("watched");
        // The first write may have to wait until the runtime sees that there is room.
        assert_eq!(write(&mut b, [&[7; 10], b""]).await.expect("written"), 10);
        // A write that took everything is followed by another: room that was always there causes no event.
        let small = poll_fn(|cx| {
            let mut write = || b.poll_write(cx, &[IoSlice::new(&[7; 10])]);
            Poll::Ready((0..2).filter(|_| write().is_ready()).count())
        });
        assert_eq!(small.await, 2);
        let mut sent = 30;
        let blocked = poll_fn(|cx| {
            loop {
                match b.poll_write(cx, &[IoSlice::new(&[7; 65_536])]) {
                    Poll::Ready(written) => sent += written.expect("written"),
                    Poll::Pending => return Poll::Ready(sent),
                }
            }
        });
        let blocked = blocked.await;
        let reader = thread::spawn(move || {
            let mut all = Vec::new();
            a.read_to_end(&mut all).map(|_| all.len())
        });
        let mut sent = blocked;
        while sent < 2 * blocked {
            sent += write(&mut b, [&[7; 65_536], b""]).await.expect("written");
        }
        poll_fn(|cx| b.poll_close(cx)).await.expect("closed");
        // It ends, since everything was written.
        assert_eq!(reader.join().expect("no panic").expect("read"), sent);
    });
}

pub(crate) fn an_aborted_stream_is_reset<R: Runtime>() {
    within_bound::<R>(async {
        let (a, mut b) = pair::<R>("127.0.0.1:0").await;
        a.abort();
        let error = read(&mut b, &mut [0; 8])
            .await
            .expect_err("not an orderly end");
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    });
}

#[cfg(target_os = "linux")]
pub(crate) fn how_a_peer_ended_is_known_before_all_is_read<R: Runtime>()
where
    StreamOf<R>: Stream<Parcel = net::TcpStream>,
{
    within_bound::<R>(async {
        let (mut a, b, kernel) = watched_pair::<R>();
        assert_eq!(b.peer_end(), None);
        a.write_all(b"unread").expect("written");
        wait_for(&kernel, PollFlags::IN);
        assert_eq!(b.peer_end(), None);
        a.shutdown(Shutdown::Write).expect("closed");
        wait_for(&kernel, END);
        assert_eq!(b.peer_end(), Some(PeerEnd::Finished));
        let linger = Some(Duration::ZERO);
        let reset = socket2::SockRef::from(&a).set_linger(linger);
        reset.expect("it is a socket");
        drop(a);
        wait_for(&kernel, PollFlags::ERR);
        assert_eq!(b.peer_end(), Some(PeerEnd::Broken));
    });
}

pub(crate) fn all_who_wait_are_accepted<R: Runtime>() {
    within_bound::<R>(async {
        let options = SocketOptions::default();
        let (mut listener, address) = R::bind("127.0.0.1:0".into(), options)
            .await
            .expect("a free port");
        let mut clients = Vec::new();
        for crowd in [100, 1, 10] {
            let connect = || net::TcpStream::connect(address).expect("somebody listens");
            clients.extend((0..crowd).map(|_| connect()));
            for _ in 0..crowd {
                let accepted = poll_fn(|cx| listener.poll_accept(cx)).await;
                assert!(accepted.is_ok());
            }
            let more = poll_fn(|cx| Poll::Ready(listener.poll_accept(cx))).await;
            assert!(more.is_pending());
        }
    });
}

pub(crate) fn an_unreachable_address_is_an_error<R: Runtime>() {
    within_bound::<R>(async {
        let options = SocketOptions::default();
        let (_bound, free) = closed_port();
        for address in [
            &free.to_string(),
            "no port",
            "127.0.0.1:65536",
            "127.0.0.1:",
        ] {
            let mut connector = R::connector(address.into(), options);
            assert!(connector.connect().await.is_err(), "{address}");
        }
        assert!(
            R::bind("192.0.2.1:0".into(), options).await.is_err(),
            "not an address of this machine"
        );
    });
}

/// An attempt to connect to a port that the system hands out may be given that port as its own if nobody listens there.
pub(crate) fn a_connection_to_itself_is_an_error<R: Runtime>() {
    // The range has only this port, so the attempt is given it.
    let one_port = "echo '42000 42000' > /proc/sys/net/ipv4/ip_local_port_range";
    alone_in_a_network(one_port, || {
        within_bound::<R>(async {
            let mut connector = R::connector("127.0.0.1:42000".into(), SocketOptions::default());
            for _ in 0..2 {
                let refused = connector.connect().await.err().expect("nobody listens");
                assert!(refused.to_string().contains("itself"), "{refused}");
            }
            // The port is free again for a listener.
            let port = net::TcpListener::bind("127.0.0.1:42000");
            assert!(port.is_ok(), "{port:?}");
        });
    });
}

/// Its connector leads to its own listener.
pub(crate) fn an_edge_is_not_its_own_backend<R: Runtime>() {
    within_bound::<R>(async {
        let options = SocketOptions::default();
        let bound = R::bind("127.0.0.1:0".into(), options).await;
        let (listener, address) = bound.expect("a free port");
        let connector = R::connector(address.to_string(), options);
        let key = KeyPair::from_bytes(&[1; 32]).expect("a key");
        let edge = Edge::new(EdgeConfig::default(), key, [2; 32]);
        let mut driver = pin!(EdgeDriver::new(
            edge,
            listener,
            connector,
            R::Timer::default()
        ));
        poll_fn(|cx| {
            assert!(driver.as_mut().poll(cx).is_pending());
            let counters = driver.edge().counters();
            assert_eq!(counters.link_up, 0);
            match counters.link_down {
                0 | 1 => Poll::Pending,
                _ => Poll::Ready(()),
            }
        })
        .await;
    });
}

/// With the default pauses two attempts in a row would follow at once with a probability of 10^-17.
pub(crate) fn a_client_pauses_as_it_was_told<R: Runtime>() {
    within_bound::<R>(async {
        let (_bound, free) = closed_port();
        let at_once = ClientConfig::default().with_backoff(Duration::ZERO, Duration::ZERO);
        let mut options = Options::default();
        options.config = at_once.expect("the shortest pauses");
        let connector = R::connector(free.to_string(), SocketOptions::default());
        let client = Client::begin(options, Means::on::<R>(connector));
        let mut client = client.expect("options that can be");
        for _ in 0..2 {
            match client.recv().await {
                Some(client::Event::Dropped {
                    cause, retry_in, ..
                }) => {
                    assert_eq!(cause.why(), Why::ConnectFailed);
                    assert_eq!(retry_in, Duration::ZERO);
                }
                other => panic!("{other:?}"),
            }
        }
    });
}

/// The name's first address, preferred as it is IPv6, leads to a wire with nobody at its other end.
pub(crate) fn an_address_that_answers_nothing_is_passed<R: Runtime>() {
    let two_addresses = "ip link add near type veth peer name far && ip link set near up \
        && ip link set far up && ip addr add 2001:db8::1/64 dev near nodad \
        && ip neigh add 2001:db8::9 lladdr 02:00:00:00:00:09 dev near \
        && mount -t tmpfs none /mnt \
        && printf '127.0.0.1 two.test\n2001:db8::9 two.test\n' > /mnt/hosts \
        && mount --bind /mnt/hosts /etc/hosts";
    alone_in_a_network(two_addresses, || {
        within_bound::<R>(async {
            let listener = net::TcpListener::bind("127.0.0.1:0").expect("a free port");
            let port = listener.local_addr().expect("it is bound").port();
            let name = format!("two.test:{port}");
            let mut found = net::ToSocketAddrs::to_socket_addrs(&name).expect("in the hosts");
            assert!(found.next().is_some_and(|first| first.is_ipv6()));
            // On its own the system would try the first address for two minutes.
            let mut connector = R::connector(name, SocketOptions::default());
            let connected = connector.connect().await;
            assert!(connected.is_ok(), "{:?}", connected.err());
        });
    });
}

/// The user timeout of these tests: how long a peer may acknowledge nothing.
const USER_TIMEOUT: Duration = Duration::from_secs(1);
/// The number of packets of 64 KiB, more than the system buffers for a peer.
const PACKETS: usize = 200;

/// Creates a backend, and a bare socket as its edge.
async fn backend_and_edge<R: Runtime>() -> (Backend, net::TcpStream) {
    let options = SocketOptions::default().with_user_timeout(USER_TIMEOUT);
    let (listener, address) = R::bind("127.0.0.1:0".into(), options)
        .await
        .expect("a free port");
    let edge = net::TcpStream::connect(address).expect("somebody listens");
    let means = backend::Means::on::<R>(listener);
    let mut backend =
        Backend::begin(backend::Options::default(), means).expect("options that can be");
    let first = backend.recv().await;
    assert!(
        matches!(first, Some(Event::EdgeConnected { .. })),
        "{first:?}"
    );
    (backend, edge)
}

/// Queues more than the peer has room for.
fn queue(backend: &Backend) -> Sent {
    let send = || backend.try_send(ClientId::from_u64(7), [7; 65_536]);
    for _ in 1..PACKETS {
        send().expect("the queue has room");
    }
    send().expect("the queue has room")
}

/// Returns the backend's next event, if there is one within `time`.
async fn told_within<R: Runtime>(backend: &mut Backend, time: Duration) -> Option<Event> {
    let mut timer = R::Timer::default();
    let until = timer.now() + time;
    poll_fn(|cx| match backend.poll_recv(cx) {
        Poll::Ready(event) => Poll::Ready(event),
        Poll::Pending => timer.poll_until(cx, until).map(|()| None),
    })
    .await
}

/// The peer has no room for longer than the user timeout, but acknowledges each probe.
pub(crate) fn a_peer_that_rests_is_waited_for<R: Runtime>() {
    within_bound::<R>(async {
        let (mut backend, mut edge) = backend_and_edge::<R>().await;
        let last = queue(&backend);
        assert_eq!(told_within::<R>(&mut backend, 3 * USER_TIMEOUT).await, None);
        let reader = thread::spawn(move || {
            let mut all = Vec::new();
            edge.read_to_end(&mut all).map(|_| all.len())
        });
        backend.acknowledged(last).await.expect("taken");
        drop(backend);
        // Each packet has a length and a tag.
        let read = reader.join().expect("no panic").expect("read");
        assert_eq!(read, PACKETS * (4 + 9 + 65_536));
    });
}

/// Cuts the network. Neither end is told.
fn cut_off() {
    let cut = Command::new("ip")
        .args(["link", "set", "lo", "down"])
        .status();
    assert!(cut.expect("`ip` is there").success());
}

pub(crate) fn a_peer_that_is_gone_is_given_up<R: Runtime>() {
    alone_in_a_network("true", || {
        within_bound::<R>(async {
            let (mut backend, _edge) = backend_and_edge::<R>().await;
            cut_off();
            let packet = backend.try_send(ClientId::from_u64(7), "to nobody");
            packet.expect("the queue has room");
            // On its own the system would try for a quarter of an hour.
            let lost = backend.recv().await;
            assert!(matches!(lost, Some(Event::EdgeLost { .. })), "{lost:?}");
        });
    });
}

pub(crate) fn a_peer_that_went_while_it_rested_is_given_up<R: Runtime>() {
    alone_in_a_network("true", || {
        within_bound::<R>(async {
            let (mut backend, _edge) = backend_and_edge::<R>().await;
            queue(&backend);
            assert_eq!(told_within::<R>(&mut backend, USER_TIMEOUT).await, None);
            cut_off();
            let lost = backend.recv().await;
            assert!(matches!(lost, Some(Event::EdgeLost { .. })), "{lost:?}");
        });
    });
}

async fn is_pending(stream: &mut impl Stream, buf: &mut [u8]) -> bool {
    poll_fn(|cx| Poll::Ready(stream.poll_read(cx, buf)))
        .await
        .is_pending()
}

/// Creates the two ends of a connection. The second is non-blocking.
fn std_pair() -> (net::TcpStream, net::TcpStream) {
    let listener = net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    let a = net::TcpStream::connect(address).expect("somebody listens");
    let (b, _) = listener.accept().expect("somebody connects");
    b.set_nonblocking(true).expect("it is a socket");
    (a, b)
}

/// Creates a connection: one end, the other end registered, and a second handle to the latter's socket.
fn watched_pair<R: Runtime>() -> (net::TcpStream, StreamOf<R>, net::TcpStream)
where
    StreamOf<R>: Stream<Parcel = net::TcpStream>,
{
    let (a, b) = std_pair();
    let kernel = b.try_clone().expect("a descriptor");
    (a, StreamOf::<R>::unpack(b).expect("watched"), kernel)
}

/// Blocks this thread until the system reports `what`.
fn wait_for(socket: &net::TcpStream, what: PollFlags) {
    let mut sockets = [PollFd::new(socket, what)];
    let timeout = BOUND.try_into().expect("a few seconds");
    let ready = rustix::event::poll(&mut sockets, Some(&timeout)).expect("polled");
    assert_eq!(ready, 1, "{what:?} within {BOUND:?}");
}

fn within_bound<R: Runtime>(run: impl Future<Output = ()> + Send + 'static) {
    let bounded = async {
        let mut run = pin!(run);
        let mut timer = R::Timer::default();
        let until = timer.now() + BOUND;
        poll_fn(|cx| match run.as_mut().poll(cx) {
            Poll::Pending if timer.poll_until(cx, until).is_ready() => {
                panic!("not within {BOUND:?}")
            }
            polled => polled,
        })
        .await;
    };
    R::block_on(bounded).expect("a runtime");
}
