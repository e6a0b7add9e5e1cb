//! The layers in front of the listeners: TLS and WebSocket, as far as this build has them.
//!
//! A build without the features `tls` and `websocket` has the plain listener of its runtime, and no code for more.

#[cfg(any(feature = "tls", feature = "websocket"))]
pub(crate) use self::layered::{Doors, Frame, Framed};
#[cfg(not(any(feature = "tls", feature = "websocket")))]
pub(crate) use self::plain::{Doors, Frame, Framed};

#[cfg(any(feature = "tls", feature = "websocket"))]
mod layered {
    #[cfg(feature = "tls")]
    use std::path::PathBuf;
    use std::time::SystemTime;

    #[cfg(feature = "tls")]
    use tracing::{info, warn};
    use voltlane_doors::{Door, DoorListener, SharedDoor};
    use voltlane_driver::Runtime;

    use crate::config::{Listener, ProxyProtocol, Transport};
    #[cfg(feature = "tls")]
    use crate::handshakes::Handshakes;
    #[cfg(feature = "websocket")]
    use crate::upgrade_refusals::UpgradeRefusals;

    /// The listener of a runtime, with its door.
    pub(crate) type Framed<R> = DoorListener<<R as Runtime>::Listener>;

    /// The doors of a listener.
    #[derive(Debug, Default)]
    pub(crate) struct Doors {
        door: SharedDoor,
        #[cfg(feature = "tls")]
        tls: Option<voltlane_doors::tls::ServerTls>,
        #[cfg(feature = "tls")]
        certificates: Vec<voltlane_doors::tls::Certificate>,
        #[cfg(feature = "tls")]
        lists: Option<voltlane_doors::tls::RevocationLists>,
        #[cfg(feature = "tls")]
        handshakes: Handshakes,
        #[cfg(feature = "websocket")]
        has_websocket: bool,
        #[cfg(feature = "websocket")]
        refusals: UpgradeRefusals,
    }

    impl Doors {
        /// Reads certificates, and logs what should not stay as it is.
        ///
        /// # Errors
        /// The first fault of a file, with its remedy.
        pub(crate) fn open(listener: &Listener) -> Result<Doors, String> {
            let mut doors = Doors::default();
            doors.reload(listener)?;
            Ok(doors)
        }

        /// Puts the values of a listener into effect for new connections, and reads certificates again: all of it or nothing. Clients that
        /// are connected keep their layers.
        ///
        /// # Errors
        /// The first fault of a file, with its remedy. What was in effect stays.
        pub(crate) fn reload(&mut self, listener: &Listener) -> Result<(), String> {
            let mut door = Door::default();
            let _ = (SystemTime::now, listener);
            #[cfg(feature = "websocket")]
            if listener.transport.has_websocket() {
                let mut rules = rules(listener)?;
                rules.tell_refusal = Some(self.refusals.counter());
                let max_message_bytes = listener.max_message_bytes.into();
                let secs = |secs: u32| std::time::Duration::from_secs(secs.into());
                door = door
                    .with_websocket(rules, max_message_bytes)
                    .with_pings(secs(listener.ping_secs), secs(listener.pong_timeout_secs));
            }
            // Without layers the machine reads it. With them it is told whether there is one: it has another configuration for the moment
            // of a reload, and a client could name its own address.
            if listener.transport != Transport::Tcp {
                let proxies = match listener.proxy_protocol {
                    ProxyProtocol::Required => listener.trusted_proxies.0.clone(),
                    ProxyProtocol::Off => Vec::new(),
                };
                door = door.with_proxies(proxies);
            }
            // Last, since certificates are in effect once they are read.
            #[cfg(feature = "tls")]
            {
                (self.tls, self.certificates, self.lists) = match listener.transport.has_tls() {
                    true => {
                        let (tls, loaded) = self.read_certificates(listener)?;
                        (Some(tls), loaded.certificates, loaded.lists)
                    }
                    false => (None, Vec::new(), None),
                };
                if let Some(tls) = &self.tls {
                    door = door
                        .with_tls(tls.clone())
                        .with_handshakes(self.handshakes.counter());
                }
            }
            self.door.replace(door);
            #[cfg(feature = "websocket")]
            {
                self.has_websocket = listener.transport.has_websocket();
            }
            Ok(())
        }

        /// Returns how long handshakes took, if the listener has TLS.
        #[cfg(feature = "tls")]
        pub(crate) fn handshakes(&self) -> Option<Handshakes> {
            self.tls.as_ref().map(|_| self.handshakes.clone())
        }

        /// Returns how many requests were refused, if the listener has WebSocket.
        #[cfg(feature = "websocket")]
        pub(crate) fn refusals(&self) -> Option<UpgradeRefusals> {
            self.has_websocket.then(|| self.refusals.clone())
        }

        /// Returns when the first certificate expires, in seconds since 1970. `None` if there is none.
        #[cfg_attr(
            not(feature = "tls"),
            expect(clippy::unused_self, reason = "as with TLS")
        )]
        pub(crate) fn expires(&self) -> Option<u64> {
            #[cfg(feature = "tls")]
            let first = {
                let ends = self.certificates.iter();
                ends.map(|certificate| certificate.not_after.as_secs())
                    .min()
            };
            #[cfg(not(feature = "tls"))]
            let first = None;
            first
        }

        /// Returns when the first list of revoked certificates is out of date, in seconds since 1970. `None` if there is none.
        #[cfg_attr(
            not(feature = "tls"),
            expect(clippy::unused_self, reason = "as with TLS")
        )]
        pub(crate) fn lists_expire(&self) -> Option<u64> {
            #[cfg(feature = "tls")]
            let first = self.lists.as_ref().map(|lists| lists.next_update.as_secs());
            #[cfg(not(feature = "tls"))]
            let first = None;
            first
        }

        /// Returns the certificates that have expired, expire soon or are not valid yet, and lists that are out of date, each with its file
        /// and the remedy.
        pub(crate) fn warnings(&self, now: SystemTime) -> Vec<String> {
            let _ = (self, now);
            #[cfg(feature = "tls")]
            let warnings = {
                let all = self.certificates.iter();
                let all = all.filter_map(|certificate| certificate.warning(now));
                let all = all.chain(self.lists.as_ref().and_then(|lists| lists.warning(now)));
                all.map(|warning| warning.to_string()).collect()
            };
            #[cfg(not(feature = "tls"))]
            let warnings = Vec::new();
            warnings
        }

        /// Reads certificates, in place of those in effect if there are any. Returns what is known of each as well.
        #[cfg(feature = "tls")]
        fn read_certificates(
            &self,
            listener: &Listener,
        ) -> Result<(voltlane_doors::tls::ServerTls, voltlane_doors::tls::Loaded), String> {
            use voltlane_doors::tls::ServerTls;
            let (settings, now) = (certificates(listener), SystemTime::now());
            let read = match &self.tls {
                None => ServerTls::load(&settings, now),
                // Their tickets stay good.
                Some(tls) => tls
                    .reload(&settings, now)
                    .map(|loaded| (tls.clone(), loaded)),
            };
            let (tls, loaded) = read.map_err(|error| error.to_string())?;
            for warning in &loaded.warnings {
                warn!(listener = %listener.name, "{warning}");
            }
            if self.tls.is_some() {
                info!(listener = %listener.name, "the certificates were read again and are in effect");
            }
            Ok((tls, loaded))
        }

        /// Returns what wraps the sockets of the listener.
        pub(crate) fn frame(&self) -> Frame {
            Frame(self.door.clone())
        }

        /// Reads certificates for nothing but their faults. Returns what should not stay as it is.
        ///
        /// # Errors
        /// Those of [`open`](Self::open).
        pub(crate) fn check(listener: &Listener) -> Result<Vec<String>, String> {
            let _ = listener;
            #[cfg(feature = "tls")]
            if listener.transport.has_tls() {
                let loaded = certificates(listener).load(SystemTime::now());
                let loaded = loaded.map_err(|error| error.to_string())?;
                return Ok(loaded.warnings.iter().map(ToString::to_string).collect());
            }
            Ok(Vec::new())
        }
    }

    /// Wraps the sockets of a listener. Clones share the door.
    #[derive(Clone, Debug)]
    pub(crate) struct Frame(SharedDoor);

    impl Frame {
        /// Wraps a socket.
        pub(crate) fn wrap<R: Runtime>(&self, listener: R::Listener) -> Framed<R> {
            DoorListener::new(listener, self.0.clone())
        }
    }

    #[cfg(feature = "tls")]
    fn certificates(listener: &Listener) -> voltlane_doors::tls::ServerSettings {
        use crate::config::{ClientAuth, MinVersion, Sni};
        use voltlane_doors::tls;
        let mut settings = tls::ServerSettings::default();
        let files = |certificate: &PathBuf, key: &PathBuf, names: &[String]| {
            tls::CertificateFiles::new(certificate, key).with_names(names)
        };
        if let (Some(certificate), Some(key)) = (&listener.certificate_file, &listener.key_file) {
            settings.certificates.push(files(certificate, key, &[]));
        }
        let more = listener.certificate.0.iter();
        let more = more.map(|own| files(&own.file, &own.key, &own.names));
        settings.certificates.extend(more);
        settings.min_version = match listener.min_version {
            MinVersion::Tls12 => tls::MinVersion::Tls12,
            MinVersion::Tls13 => tls::MinVersion::Tls13,
        };
        settings.sni = match listener.sni {
            Sni::First => tls::Sni::First,
            Sni::Strict => tls::Sni::Strict,
        };
        settings.client_auth = match listener.client_auth {
            ClientAuth::Off => tls::ClientAuth::Off,
            ClientAuth::Optional => tls::ClientAuth::Optional,
            ClientAuth::Required => tls::ClientAuth::Required,
        };
        settings.client_ca.clone_from(&listener.client_ca_file);
        settings.client_crl.clone_from(&listener.client_crl_file);
        if listener.alpn {
            let name = match listener.transport.has_websocket() {
                true => tls::ALPN_HTTP,
                false => tls::ALPN_VOLTLANE,
            };
            settings.alpn = vec![name.to_vec()];
        }
        settings.tickets = listener.tickets;
        settings
    }

    #[cfg(feature = "websocket")]
    fn rules(listener: &Listener) -> Result<voltlane_doors::websocket::http::Rules, String> {
        use crate::config::Forwarded;
        use voltlane_doors::websocket::http;
        let mut rules = http::Rules::default();
        rules.path = listener.path.to_string();
        rules.health_path = listener.health_path.as_ref().map(ToString::to_string);
        if !listener.origins.0.is_empty() {
            let parsed = listener.origins.0.iter().map(|origin| origin.parse());
            let parsed = parsed.collect::<Result<_, http::OriginError>>();
            rules.origins = http::Origins::Listed(parsed.map_err(|error| error.to_string())?);
        }
        rules.origin_required = listener.origin_required;
        rules.forwarded = match listener.forwarded {
            Forwarded::Off => http::Forwarded::Off,
            Forwarded::XForwardedFor => http::Forwarded::XForwardedFor,
            Forwarded::Forwarded => http::Forwarded::Forwarded,
        };
        rules
            .trusted_proxies
            .clone_from(&listener.trusted_proxies.0);
        Ok(rules)
    }
}

#[cfg(not(any(feature = "tls", feature = "websocket")))]
mod plain {
    use voltlane_driver::Runtime;

    use crate::config::Listener;

    /// The listener of a runtime.
    pub(crate) type Framed<R> = <R as Runtime>::Listener;

    /// No doors: the configuration allows none in this build.
    #[derive(Debug)]
    pub(crate) struct Doors;

    impl Doors {
        #[expect(clippy::unnecessary_wraps, reason = "as with doors")]
        pub(crate) fn open(_: &Listener) -> Result<Doors, String> {
            Ok(Doors)
        }

        #[expect(clippy::unnecessary_wraps, reason = "as with doors")]
        pub(crate) fn check(_: &Listener) -> Result<Vec<String>, String> {
            Ok(Vec::new())
        }

        #[expect(
            clippy::unused_self,
            clippy::unnecessary_wraps,
            reason = "as with doors"
        )]
        pub(crate) fn reload(&mut self, _: &Listener) -> Result<(), String> {
            Ok(())
        }

        #[expect(clippy::unused_self, reason = "as with doors")]
        pub(crate) fn expires(&self) -> Option<u64> {
            None
        }

        #[expect(clippy::unused_self, reason = "as with doors")]
        pub(crate) fn lists_expire(&self) -> Option<u64> {
            None
        }

        #[expect(clippy::unused_self, reason = "as with doors")]
        pub(crate) fn warnings(&self, _: std::time::SystemTime) -> Vec<String> {
            Vec::new()
        }

        #[expect(clippy::unused_self, reason = "as with doors")]
        pub(crate) fn frame(&self) -> Frame {
            Frame
        }
    }

    /// Wraps nothing.
    #[derive(Clone, Debug)]
    pub(crate) struct Frame;

    impl Frame {
        #[expect(clippy::unused_self, reason = "as with doors")]
        pub(crate) fn wrap<R: Runtime>(&self, listener: R::Listener) -> Framed<R> {
            listener
        }
    }
}
