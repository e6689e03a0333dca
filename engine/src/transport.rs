//! transport turns our transport settings into quinn-proto's.

use std::sync::Arc;
use std::time::Duration;

use quinn_proto::{IdleTimeout, MtuDiscoveryConfig, TransportConfig, VarInt};

use crate::config::{Limits, Transport};
use crate::congestion::Factory;
use crate::error::ConfigError;
use crate::ip::ByVersion;

/// Checks those limits that have limits: a deadline that overflows the clock would end the
/// process, a socket buffer has the range of the kernel's `int` and must hold a datagram.
pub(crate) fn check(limits: &Limits) -> Result<(), ConfigError> {
    let bytes = limits.socket_buffer_bytes;
    if !(SOCKET_BUFFER_MIN..=SOCKET_BUFFER_MAX).contains(&bytes) {
        return Err(out_of_range("socket_buffer", bytes, "give 64 KiB to 1 GiB"));
    }
    if limits.handshake_deadline > TIME_MAX {
        let value = format!("{:?}", limits.handshake_deadline);
        return Err(out_of_range("handshake_deadline", value, "give at most 365 days"));
    }
    Ok(())
}

impl Transport {
    /// Whether connections can be made with it; an engine that is started looks by itself.
    ///
    /// # Errors
    /// When a value is out of its range.
    pub fn check(&self) -> Result<(), ConfigError> {
        transport(self).map(|_| ())
    }
}

/// Checks every value and says which one is out of range. Over IPv4 larger datagrams are tried.
pub(crate) fn transport(
    settings: &Transport,
) -> Result<ByVersion<Arc<TransportConfig>>, ConfigError> {
    let with = |ethernet| config(settings, ethernet).map(Arc::new);
    Ok(ByVersion { v4: with(ETHERNET_V4)?, v6: with(ETHERNET_V6)? })
}

fn config(settings: &Transport, ethernet: u16) -> Result<TransportConfig, ConfigError> {
    let Transport {
        streams_bidi,
        streams_uni,
        stream_receive_window,
        receive_window,
        send_window,
        idle_timeout,
        keep_alive,
        datagram_receive_bytes,
        datagram_send_bytes,
        initial_mtu,
        mtu_max,
        congestion,
    } = settings.clone();
    if !(MTU_MIN..=MTU_MAX).contains(&initial_mtu) {
        return Err(out_of_range("initial_mtu", initial_mtu, "give 1200 to 65527 bytes"));
    }
    let mtu_max = mtu_max.unwrap_or_else(|| ethernet.max(initial_mtu));
    if mtu_max < initial_mtu || mtu_max > MTU_MAX {
        return Err(out_of_range("mtu_max", mtu_max, "give initial_mtu to 65527 bytes"));
    }
    for (name, streams) in [("streams_bidi", streams_bidi), ("streams_uni", streams_uni)] {
        if streams > STREAMS_MAX {
            return Err(out_of_range(name, streams, "give at most 100000"));
        }
    }
    let idle = IdleTimeout::try_from(idle_timeout)
        .ok()
        .filter(|_| (Duration::from_millis(1)..=TIME_MAX).contains(&idle_timeout))
        .ok_or_else(|| {
            let value = format!("{idle_timeout:?}");
            out_of_range("idle_timeout", value, "give 1 ms to 365 days")
        })?;
    if keep_alive.is_some_and(|interval| interval >= idle_timeout) {
        let value = format!("{:?}", keep_alive.unwrap_or_default());
        return Err(out_of_range("keep_alive", value, "give less than idle_timeout"));
    }
    if keep_alive.is_some_and(|interval| interval < KEEP_ALIVE_MIN) {
        let value = format!("{:?}", keep_alive.unwrap_or_default());
        return Err(out_of_range("keep_alive", value, "give at least 1 ms"));
    }
    for (name, window) in [("stream_window", stream_receive_window), ("window", receive_window)] {
        if window == 0 {
            return Err(out_of_range(name, window, "give at least 1, else nothing can arrive"));
        }
    }
    let mut config = TransportConfig::default();
    config
        .max_concurrent_bidi_streams(VarInt::from_u32(streams_bidi))
        .max_concurrent_uni_streams(VarInt::from_u32(streams_uni))
        .stream_receive_window(VarInt::from_u32(stream_receive_window))
        .receive_window(VarInt::from_u32(receive_window))
        .send_window(send_window)
        .max_idle_timeout(Some(idle))
        .keep_alive_interval(keep_alive)
        .datagram_receive_buffer_size(
            (datagram_receive_bytes > 0).then_some(datagram_receive_bytes),
        )
        .datagram_send_buffer_size(datagram_send_bytes)
        .initial_mtu(initial_mtu)
        .mtu_discovery_config(discovery(initial_mtu, mtu_max))
        .congestion_controller_factory(Factory::new(congestion));
    Ok(config)
}

fn discovery(initial_mtu: u16, mtu_max: u16) -> Option<MtuDiscoveryConfig> {
    (mtu_max > initial_mtu).then(|| {
        let mut discovery = MtuDiscoveryConfig::default();
        discovery.upper_bound(mtu_max);
        discovery
    })
}

fn out_of_range(name: &'static str, value: impl ToString, remedy: &'static str) -> ConfigError {
    ConfigError::OutOfRange { name, value: value.to_string(), remedy }
}

/// RFC 9000 section 14.
const MTU_MIN: u16 = 1_200;
/// What fits a frame of Ethernet: 1,500 bytes less the headers of IP, without options, and UDP.
const ETHERNET_V4: u16 = 1_472;
const ETHERNET_V6: u16 = 1_452;
/// The largest UDP payload over IPv6.
pub(crate) const MTU_MAX: u16 = 65_527;

/// A ping a millisecond is more than any middlebox asks for; without a limit a typing error
/// makes a connection ping in every turn.
const KEEP_ALIVE_MIN: Duration = Duration::from_millis(1);
/// One full train must fit.
const SOCKET_BUFFER_MIN: usize = 64 << 10;
/// The kernel doubles what it is given, in an `int`.
const SOCKET_BUFFER_MAX: usize = 1 << 30;
/// Far from where clocks overflow.
const TIME_MAX: Duration = Duration::from_secs(365 * 86_400);
/// quinn-proto fills its tables for all streams a peer may open when a connection begins: 76 bytes
/// each, so 7.6 MB a connection.
const STREAMS_MAX: u32 = 100_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_out_of_range_are_named() {
        let refuse = |settings: Transport, name: &str| {
            let error = transport(&settings).unwrap_err().to_string();
            assert!(error.contains(name), "{error}");
        };
        refuse(Transport { initial_mtu: 1_199, ..Transport::default() }, "1199");
        refuse(Transport { mtu_max: Some(1_199), ..Transport::default() }, "mtu_max");
        refuse(Transport { idle_timeout: Duration::ZERO, ..Transport::default() }, "idle_timeout");
        refuse(Transport { streams_bidi: u32::MAX, ..Transport::default() }, "streams_bidi");
        refuse(Transport { streams_uni: 100_001, ..Transport::default() }, "streams_uni");
        let keep_alive = Some(Duration::from_secs(31));
        refuse(Transport { keep_alive, ..Transport::default() }, "keep_alive");
        let keep_alive = Some(Duration::from_nanos(1));
        refuse(Transport { keep_alive, ..Transport::default() }, "1ns");
        refuse(Transport { receive_window: 0, ..Transport::default() }, "window is 0");
        let stream_receive_window = 0;
        refuse(Transport { stream_receive_window, ..Transport::default() }, "stream_window is 0");
        for socket_buffer_bytes in [0, SOCKET_BUFFER_MIN - 1, SOCKET_BUFFER_MAX + 1, usize::MAX] {
            let limits = Limits { socket_buffer_bytes, ..Limits::default() };
            let error = check(&limits).unwrap_err().to_string();
            assert!(error.contains("socket_buffer") && error.contains("1 GiB"), "{error}");
        }
        assert!(check(&Limits::default()).is_ok());
        assert!(transport(&Transport::default()).is_ok());
        // More than the default is assumed to pass.
        assert!(transport(&Transport { initial_mtu: 9_000, ..Transport::default() }).is_ok());
    }
}
