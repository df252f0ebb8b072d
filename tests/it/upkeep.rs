//! Tables that stay true while nodes leave.

use foveola::mesh::LocalMesh;

use crate::util::{PATIENCE, in_time, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_leaves_is_gone_from_every_table_at_once() {
    let mesh = LocalMesh::builder().nodes(5).spawn().await.unwrap();
    let left = mesh.node(2).id();
    assert!(mesh.node(0).table().contains(&left));
    in_time(mesh.node(2).shutdown()).await;
    until(PATIENCE, "nobody knows it any more", || {
        let mut others = mesh.nodes().iter().filter(|node| node.id() != left);
        others.all(|node| node.table().len() == 3 && !node.table().contains(&left))
    })
    .await;
}
