//! Between the engine's words and libp2p's: peers, dial failures, closed connections. The only bilingual file.

use std::error::Error as StdError;
use std::io;

use anabranch_engine::id::DeviceId;
use libp2p::PeerId;
use libp2p::core::transport::TransportError;
use libp2p::core::upgrade::NegotiationError;
use libp2p::swarm::{ConnectionDenied, ConnectionError, DialError};

use crate::limits::Refused;
use crate::{SESSION_PROTOCOL, transport};

/// What stands before the 32 bytes of an ed25519 key in a peer id: identity multihash of 36 bytes (00 24), protobuf key
/// type 1 (08 01), key of 32 bytes (12 20). From the libp2p peer id specification.
const ED25519_PREFIX: [u8; 6] = [0x00, 0x24, 0x08, 0x01, 0x12, 0x20];

/// The peer id of a device.
pub(crate) fn peer_id(device: &DeviceId) -> PeerId {
    let bytes = [ED25519_PREFIX.as_slice(), device.as_bytes()].concat();
    PeerId::from_bytes(&bytes).expect("an identity multihash of 36 bytes is a peer id")
}

/// The device behind a peer id; `None` if its key is not ed25519.
pub(crate) fn device(peer: &PeerId) -> Option<DeviceId> {
    DeviceId::from_slice(peer.to_bytes().strip_prefix(&ED25519_PREFIX)?)
}

/// A connection was refused because its key is not that of a device.
#[derive(Debug, thiserror::Error)]
#[error("its key is not an ed25519 key")]
pub(crate) struct NotADevice;

/// Whether a dial was refused for a limit of ours, which says nothing about the address.
pub(crate) fn is_for_a_limit(error: &DialError) -> bool {
    matches!(error, DialError::Denied { cause } if cause.downcast_ref::<Refused>().is_some())
}

/// Why a dial failed, in a few words.
pub(crate) fn dial_failure(error: &DialError, expected: Option<PeerId>) -> String {
    match error {
        DialError::LocalPeerId { .. } | DialError::NoAddresses => "it is an address of this device itself".to_owned(),
        DialError::WrongPeerId { obtained, .. } => match expected {
            Some(expected) => format!("it is another device: expected {expected}, found {obtained}"),
            None => format!("it is another device: found {obtained}"),
        },
        DialError::Denied { cause } => denial(cause),
        DialError::DialPeerConditionFalse(_) | DialError::Aborted => "the dial was called off".to_owned(),
        DialError::Transport(attempts) => match attempts.last() {
            Some((_, TransportError::MultiaddrNotSupported(_))) => {
                format!("unsupported address: {}", transport::CARRIED)
            }
            Some((_, TransportError::Other(error))) => io_failure(error),
            None => "no address could be dialed".to_owned(),
        },
    }
}

/// Why an address cannot be listened on.
pub(crate) fn listen_failure(error: &TransportError<io::Error>) -> String {
    match error {
        TransportError::MultiaddrNotSupported(_) => format!("unsupported address: {}", transport::CARRIED),
        TransportError::Other(error) => io_failure(error),
    }
}

/// Why a connection was refused by us.
pub(crate) fn denial(cause: &ConnectionDenied) -> String {
    innermost(cause).to_string()
}

/// Why a connection ended.
pub(crate) fn closed(cause: Option<&ConnectionError>) -> String {
    match cause {
        None => "the connection was closed here".to_owned(),
        Some(ConnectionError::KeepAliveTimeout) => "the connection was idle".to_owned(),
        Some(ConnectionError::IO(error)) => io_failure(error),
    }
}

/// An error of a socket or of what is layered on it, in a few words.
pub(crate) fn io_failure(error: &io::Error) -> String {
    let mut cause: Option<&(dyn StdError + 'static)> = Some(error);
    while let Some(current) = cause {
        if let Some(words) = current.downcast_ref::<io::Error>().and_then(known_kind) {
            return words.to_owned();
        }
        if let Some(NegotiationError::Failed) = current.downcast_ref::<NegotiationError>() {
            return format!("the peer does not speak {SESSION_PROTOCOL}");
        }
        let text = current.to_string();
        // The transport's own time limit and its look at resolved names have error types that are generic over what they
        // wrap, so they are known by their words.
        if text.starts_with("Timeout has been reached") {
            return "timed out".to_owned();
        }
        if text.contains("Unsupported resolved address") {
            return format!("unsupported address: {}", transport::CARRIED);
        }
        if transport::is_unresolved(current) {
            return "cannot resolve the host name".to_owned();
        }
        cause = deeper(current);
    }
    let text = innermost(error).to_string();
    if text == "connection is closed" || text.is_empty() { "the connection was closed".to_owned() } else { text }
}

fn known_kind(error: &io::Error) -> Option<&'static str> {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => Some("connection refused"),
        io::ErrorKind::ConnectionReset => Some("connection reset"),
        io::ErrorKind::ConnectionAborted => Some("connection aborted"),
        io::ErrorKind::BrokenPipe
        | io::ErrorKind::NotConnected
        | io::ErrorKind::WriteZero
        | io::ErrorKind::UnexpectedEof => Some("the connection was closed"),
        io::ErrorKind::HostUnreachable => Some("host unreachable"),
        io::ErrorKind::NetworkUnreachable => Some("network unreachable"),
        io::ErrorKind::TimedOut => Some("timed out"),
        io::ErrorKind::AddrInUse => Some("address in use"),
        io::ErrorKind::AddrNotAvailable => Some("address not available on this machine"),
        io::ErrorKind::PermissionDenied => Some("permission denied"),
        _ => None,
    }
}

fn innermost<'a>(error: &'a (dyn StdError + 'static)) -> &'a (dyn StdError + 'static) {
    let mut current = error;
    while let Some(inner) = deeper(current) {
        current = inner;
    }
    current
}

/// The cause one step down. An `io::Error` hides the error that it wraps behind that error's own source.
fn deeper<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a (dyn StdError + 'static)> {
    match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        Some(inner) => Some(inner),
        None => error.source(),
    }
}
