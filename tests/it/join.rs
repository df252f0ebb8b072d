//! Joining a mesh, once and again.

use std::time::Duration;

use foveola::Node;
use foveola::mesh::LocalMesh;

/// A second join learns of nodes that are connected already.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_may_join_again_and_through_several() {
    let mesh = LocalMesh::builder().nodes(3).spawn().await.unwrap();
    let everyone = mesh.nodes().iter().map(Node::peer_addr);
    let node = Node::builder().bootstrap(everyone).spawn();
    let node = tokio::time::timeout(Duration::from_secs(10), node).await.unwrap().unwrap();
    for member in mesh.nodes() {
        let address = member.peer_addr();
        let join = node.join(&address);
        let id = tokio::time::timeout(Duration::from_secs(10), join).await.unwrap().unwrap();
        assert_eq!(id, member.id());
    }
    assert_eq!(node.stats().table_nodes, 3);
    node.shutdown().await;
    mesh.shutdown().await;
}
