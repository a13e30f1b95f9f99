//! What answers a call that no fault decides: moto, over HTTP, or the emulator's store, in this process. Questions enter, answers leave.

use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::header::{CONNECTION, CONTENT_LENGTH, EXPECT, HOST, HeaderMap, TRANSFER_ENCODING};
use hyper::{Request, Response, StatusCode, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;

use super::Stale;
use super::wire::{Question, Reply, json_response};
use crate::{emulator::Store, moto::STUMBLES};

/// One of the two.
pub(crate) enum Behind {
    Moto { url: String, client: Box<Client<HttpConnector, Full<Bytes>>> },
    Store(Arc<Mutex<Store>>),
}

impl Behind {
    pub(super) fn moto(url: &str) -> Self {
        Self::Moto { url: url.trim_end_matches('/').to_owned(), client: Box::new(Client::builder(TokioExecutor::new()).build_http()) }
    }

    pub(super) async fn answer(&self, question: &Question, stale: Option<Stale>) -> Reply {
        match self {
            Self::Store(store) => store.lock().unwrap_or_else(PoisonError::into_inner).answer(&question.call, &question.json, stale),
            Self::Moto { .. } if stale.is_some() => json_response(502, "moto can't answer with what was there before".into()),
            Self::Moto { url, client } => {
                let mut stumbles = 0;
                loop {
                    match forward(url, client, question).await {
                        Ok(reply) if reply.status() == StatusCode::INTERNAL_SERVER_ERROR && stumbles < STUMBLES => stumbles += 1,
                        Ok(reply) => return reply,
                        Err(error) => return json_response(502, format!("the testbed's front can't reach moto: {error:#}").into()),
                    }
                }
            }
        }
    }
}

/// Sends the request to moto and hands back its answer.
async fn forward(url: &str, client: &Client<HttpConnector, Full<Bytes>>, question: &Question) -> Result<Reply> {
    let path = question.parts.uri.path_and_query().map_or("/", |path| path.as_str());
    let mut request = Request::new(Full::new(question.body.clone()));
    *request.method_mut() = question.parts.method.clone();
    *request.uri_mut() = format!("{url}{path}").parse::<Uri>()?;
    *request.headers_mut() = question.parts.headers.clone();
    strip(request.headers_mut());
    let (mut head, body) = client.request(request).await?.into_parts();
    strip(&mut head.headers);
    Ok(Response::from_parts(head, Full::new(body.collect().await?.to_bytes())))
}

/// Takes out what belongs to one connection or is computed anew.
fn strip(headers: &mut HeaderMap) {
    for name in [HOST, CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING, EXPECT] {
        headers.remove(name);
    }
}
