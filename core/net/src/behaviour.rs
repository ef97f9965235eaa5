//! The behaviours of the swarm, and how gossipsub is set up: anonymous hints that are forwarded only when judged.

use std::time::Duration;

use libp2p::gossipsub::{
    AllowAllSubscriptionFilter, Behaviour as Gossip, ConfigBuilder, IdentityTransform, MaxCountSubscriptionFilter,
    Message, MessageAuthenticity, MessageId, PeerScoreParams, PeerScoreThresholds, TopicScoreParams, ValidationMode,
};
use libp2p::identity::Keypair;
use libp2p::swarm::NetworkBehaviour;
use libp2p::{identify, ping};

use crate::gate::Gates;
use crate::gated::Gated;
use crate::limits::{
    GOSSIP_BYTES_MAX, GOSSIP_IDS_MAX, GOSSIP_QUEUE_MAX, HINTS_PER_MESSAGE_MAX, Limits, NetLimits, TOPICS_PER_PEER_MAX,
};
use crate::sessions::Sessions;

/// Names us to members. Nobody else sees it.
const IDENTIFY_PROTOCOL: &str = "/anabranch/1";
/// identify speaks once on each connection; the interval only has to be longer than those last.
const IDENTIFY_INTERVAL: Duration = Duration::from_secs(24 * 3600);
/// Dead peers are found by the engine's keep-alive; ping only measures, so it may be rare.
const PING_INTERVAL: Duration = Duration::from_secs(60);
/// A hint seen within this time is not forwarded again. gossipsub's default.
const DUPLICATE_TIME: Duration = Duration::from_secs(60);

/// gossipsub as we use it: a peer's number of topics is bounded.
pub(crate) type HintGossip = Gossip<IdentityTransform, MaxCountSubscriptionFilter<AllowAllSubscriptionFilter>>;

/// Everything that happens on a connection. The limits come first: what they refuse, nobody else hears of.
#[derive(NetworkBehaviour)]
pub(crate) struct Behaviour {
    pub(crate) limits: Limits,
    pub(crate) members: Gated<Members>,
    pub(crate) sessions: Sessions,
}

/// What only admitted peers see.
#[derive(NetworkBehaviour)]
pub(crate) struct Members {
    pub(crate) gossip: HintGossip,
    pub(crate) identify: identify::Behaviour,
    pub(crate) ping: ping::Behaviour,
}

impl Behaviour {
    pub(crate) fn new(keypair: &Keypair, limits: &NetLimits) -> Result<Self, String> {
        let identify = identify::Config::new(IDENTIFY_PROTOCOL.to_owned(), keypair.public())
            .with_agent_version(concat!("anabranch/", env!("CARGO_PKG_VERSION")).to_owned())
            .with_interval(IDENTIFY_INTERVAL)
            // The engine tells members where we are: what is announced, and not more.
            .with_hide_listen_addrs(true)
            .with_cache_size(0);
        let members = Members {
            gossip: gossip()?,
            identify: identify::Behaviour::new(identify),
            ping: ping::Behaviour::new(ping::Config::new().with_interval(PING_INTERVAL)),
        };
        let gates = Gates::default();
        Ok(Self {
            limits: Limits::new(limits.clone()),
            members: Gated::new(members, gates.clone()),
            sessions: Sessions::new(limits, gates),
        })
    }
}

fn gossip() -> Result<HintGossip, String> {
    let config = ConfigBuilder::default()
        // The engine judges each hint before it goes on.
        .validate_messages()
        // A hint is signed inside, or needs no author; one that names an author is refused.
        .validation_mode(ValidationMode::Anonymous)
        .message_id_fn(hint_id)
        .max_transmit_size(GOSSIP_BYTES_MAX)
        .max_publish_messages(HINTS_PER_MESSAGE_MAX)
        .max_control_messages_sent(GOSSIP_IDS_MAX)
        .connection_handler_queue_len(GOSSIP_QUEUE_MAX)
        .duplicate_cache_time(DUPLICATE_TIME)
        .heartbeat_initial_delay(Duration::from_secs(1))
        .flood_publish(false)
        .build()
        .map_err(|error| error.to_string())?;
    let filter = MaxCountSubscriptionFilter {
        filter: AllowAllSubscriptionFilter {},
        max_subscribed_topics: TOPICS_PER_PEER_MAX,
        max_subscriptions_per_request: TOPICS_PER_PEER_MAX,
    };
    let mut gossip = Gossip::new_with_subscription_filter(MessageAuthenticity::Anonymous, config, filter)?;
    let scores = PeerScoreParams {
        // Members of one household or office share an address: here that says nothing against them.
        ip_colocation_factor_weight: 0.0,
        app_specific_weight: 0.0,
        ..PeerScoreParams::default()
    };
    gossip.with_peer_score(scores, PeerScoreThresholds::default())?;
    Ok(gossip)
}

/// How peers are scored in one topic: only for hints that they should not have forwarded. Spaces may be silent for days, so
/// nothing is expected of anybody.
pub(crate) fn topic_scores() -> TopicScoreParams {
    TopicScoreParams {
        topic_weight: 1.0,
        time_in_mesh_weight: 0.0,
        first_message_deliveries_weight: 0.0,
        mesh_message_deliveries_weight: 0.0,
        mesh_failure_penalty_weight: 0.0,
        // Two rejected hints in a row silence the forwarder (graylist at -80); it is forgiven in about ten seconds.
        invalid_message_deliveries_weight: -20.0,
        invalid_message_deliveries_decay: 0.8,
        ..TopicScoreParams::default()
    }
}

/// The same bytes in the same topic are the same hint, whoever sent them.
fn hint_id(message: &Message) -> MessageId {
    let mut hasher = blake3::Hasher::new();
    hasher.update(message.topic.as_str().as_bytes()).update(&message.data);
    MessageId::from(&hasher.finalize().as_bytes()[..20])
}
