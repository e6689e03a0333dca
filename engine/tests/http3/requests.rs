//! requests: what a client that behaves asks for, and gets.

use std::sync::Arc;

use quiclane::Io;
use quiclane::apps::Http3;
use quiclane::apps::http3::{Options, Site, SiteOptions};

use crate::client::Client;
use crate::common::{Served, app_server, law_holds, runtime};

pub(crate) fn site(io: Io) -> Served {
    app_server(&["h3"], io, |_| {
        Http3::serving(Site::new(None, SiteOptions::default()), Options::default())
    })
}

#[test]
fn generated_bytes_arrive() {
    for io in [Io::Epoll, Io::Uring] {
        let server = site(io);
        runtime().block_on(async {
            let client = Client::connect(&server).await;
            for bytes in [0, 1, 1_024, 20_000, 5_000_000] {
                let answer = client.get(&format!("/bytes/{bytes}")).await;
                assert_eq!(answer.status, 200);
                assert_eq!(answer.content.len(), bytes);
                assert_eq!(answer.header("content-length"), Some(&bytes.to_string()[..]));
            }
            assert_eq!(client.get("/nothing").await.status, 404);
        });
        law_holds(&server.finish());
    }
}

#[test]
fn a_hundred_requests_at_once() {
    let server = site(Io::Auto);
    runtime().block_on(async {
        let client = Arc::new(Client::connect(&server).await);
        let requests: Vec<_> = (0..100)
            .map(|n| {
                let client = Arc::clone(&client);
                tokio::spawn(async move { client.get(&format!("/bytes/{}", n * 1_000)).await })
            })
            .collect();
        for (n, request) in requests.into_iter().enumerate() {
            assert_eq!(request.await.unwrap().content.len(), n * 1_000);
        }
    });
    law_holds(&server.finish());
}
