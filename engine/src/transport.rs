//! transport turns our transport settings into quinn-proto's.

use std::sync::Arc;
use std::time::Duration;

use quinn_proto::{IdleTimeout, MtuDiscoveryConfig, TransportConfig, VarInt};

use crate::config::{Limits, Transport};
use crate::congestion::Factory;
use crate::error::ConfigError;

/// Checks the times among the limits: a deadline that overflows the clock would end the process.
pub(crate) fn check(limits: &Limits) -> Result<(), ConfigError> {
    if limits.handshake_deadline > TIME_MAX {
        let value = format!("{:?}", limits.handshake_deadline);
        return Err(out_of_range("handshake_deadline", value, "give at most 365 days"));
    }
    Ok(())
}

/// Checks every value and says which one is out of range.
pub(crate) fn transport(settings: &Transport) -> Result<Arc<TransportConfig>, ConfigError> {
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
    Ok(Arc::new(config))
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
/// The largest UDP payload over IPv6.
const MTU_MAX: u16 = 65_527;

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
        refuse(Transport { mtu_max: 1_199, ..Transport::default() }, "mtu_max");
        refuse(Transport { idle_timeout: Duration::ZERO, ..Transport::default() }, "idle_timeout");
        refuse(Transport { streams_bidi: u32::MAX, ..Transport::default() }, "streams_bidi");
        refuse(Transport { streams_uni: 100_001, ..Transport::default() }, "streams_uni");
        let keep_alive = Some(Duration::from_secs(31));
        refuse(Transport { keep_alive, ..Transport::default() }, "keep_alive");
        assert!(transport(&Transport::default()).is_ok());
    }
}
