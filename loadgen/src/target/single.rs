//! One node of its own process.

use std::net::SocketAddr;

use anyhow::{Context as _, Result};
use foveola::{Config, Identity, Key, Node};

use crate::node::NodeArgs;

/// One node of its own process.
pub struct Single {
    node: Node,
}

impl Single {
    /// Starts the node and joins the mesh, if told where it is.
    pub async fn start(args: &NodeArgs) -> Result<Self> {
        let identity = match (&args.identity, args.seed) {
            (Some(path), _) => Identity::load_or_generate(path).context("the identity")?,
            (None, Some(seed)) => Identity::from_seed(&seed_bytes(seed)),
            (None, None) => Identity::generate(),
        };
        let bootstrap: Vec<foveola::addr::PeerAddr> = args
            .bootstrap
            .iter()
            .map(|addr| addr.parse())
            .collect::<Result<_, _>>()
            .context("--bootstrap")?;
        let mut config = Config::default();
        config.k = args.k;
        let builder =
            Node::builder().identity(identity).listen(args.listen).config(config).bootstrap(bootstrap);
        Ok(Self { node: builder.spawn().await.context("the node did not start")? })
    }

    pub fn id(&self) -> String {
        self.node.id().to_string()
    }

    pub fn addr(&self) -> SocketAddr {
        self.node.local_addr()
    }

    pub async fn shutdown(self) {
        self.node.shutdown().await;
    }
}

/// 32 bytes that depend on all of the seed.
fn seed_bytes(seed: u64) -> [u8; 32] {
    *Key::of_name(format!("loadgen/node/{seed}")).as_bytes()
}
