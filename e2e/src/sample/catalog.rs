//! The labs' catalog: a few items, and faults that are switched on by `POST /blowup`.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use parking_lot::Mutex;
use rand::Rng as _;
use serde::{Deserialize, Serialize};
use tonic::body::Body;

use super::server::{json, text};

const MAX_BODY: usize = 1 << 20;

/// An item for sale.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Item {
    /// Number.
    pub id: u64,
    /// Colour.
    pub color: String,
    /// Department.
    pub department: String,
    /// Name.
    pub name: String,
    /// Price with two digits after the point.
    pub price: String,
    /// Version 2 only.
    #[serde(rename = "imageUrl", skip_serializing_if = "Option::is_none", default)]
    pub image_url: Option<String>,
}

/// A fault, by its type.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Blowup {
    #[serde(default)]
    active: bool,
    #[serde(rename = "type", default)]
    kind: Kind,
    /// Of requests; 100 when left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    percentage: Option<f64>,
    /// Milliseconds, for latency; 1000 when left out.
    #[serde(rename = "latencyMs", alias = "volume", skip_serializing_if = "Option::is_none")]
    latency_ms: Option<u64>,
    /// Latency between nothing and the given one.
    #[serde(default)]
    volatile: bool,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
enum Kind {
    #[default]
    #[serde(rename = "500")]
    Error,
    #[serde(rename = "latency")]
    Latency,
}

/// The service.
pub struct Catalog {
    items: Mutex<Vec<Item>>,
    blowups: Mutex<BTreeMap<Kind, Blowup>>,
    show_image: bool,
}

impl Catalog {
    /// With the items of the labs; `show_image` makes it version 2.
    pub fn new(show_image: bool) -> Catalog {
        let item = |id, color: &str, department: &str, name: &str, price: &str| Item {
            id,
            color: color.to_owned(),
            department: department.to_owned(),
            name: name.to_owned(),
            price: price.to_owned(),
            image_url: None,
        };
        Catalog {
            items: Mutex::new(vec![
                item(1, "amber", "Eyewear", "Elinor Glasses", "282.00"),
                item(2, "cyan", "Clothing", "Atlas Shirt", "127.00"),
                item(3, "teal", "Clothing", "Small Metal Shoes", "232.00"),
                item(4, "red", "Watches", "Red Dragon Watch", "232.00"),
            ]),
            blowups: Mutex::new(BTreeMap::new()),
            show_image,
        }
    }

    /// Answers a request.
    pub async fn handle(&self, request: Request<Incoming>) -> Response<Body> {
        let (parts, body) = request.into_parts();
        let path = parts.uri.path().trim_end_matches('/');
        if path.starts_with("/items")
            && let Some(failed) = self.blow_up().await
        {
            return failed;
        }
        match (&parts.method, path) {
            (&Method::GET | &Method::HEAD, "/items") => json(StatusCode::OK, &self.all()),
            (&Method::POST, "/items") => self.add(body).await,
            (&Method::GET | &Method::HEAD, _) if path.starts_with("/items/") => {
                self.one(path.trim_start_matches("/items/"))
            }
            (&Method::GET, "/blowup") => json(StatusCode::OK, &self.blowups.lock().values().collect::<Vec<_>>()),
            (&Method::POST, "/blowup") => self.set_blowup(body).await,
            (&Method::DELETE, "/blowup") => {
                self.blowups.lock().clear();
                text(StatusCode::OK, "deleted")
            }
            _ => json(StatusCode::NOT_FOUND, &serde_json::json!({})),
        }
    }

    fn all(&self) -> Vec<Item> {
        self.items.lock().iter().map(|item| self.shown(item)).collect()
    }

    fn shown(&self, item: &Item) -> Item {
        let image_url = self
            .show_image
            .then(|| format!("http://lorempixel.com/640/480?item={}", item.id));
        Item {
            image_url,
            ..item.clone()
        }
    }

    fn one(&self, id: &str) -> Response<Body> {
        let items = self.items.lock();
        let found = id
            .parse()
            .ok()
            .and_then(|id: u64| items.iter().find(|item| item.id == id));
        match found {
            Some(item) => json(StatusCode::OK, &self.shown(item)),
            None => json(StatusCode::NOT_FOUND, &serde_json::json!({})),
        }
    }

    async fn add(&self, body: Incoming) -> Response<Body> {
        match read::<Item>(body).await {
            Ok(item) => {
                let shown = json(StatusCode::CREATED, &item);
                self.items.lock().push(item);
                shown
            }
            Err(refused) => refused,
        }
    }

    async fn set_blowup(&self, body: Incoming) -> Response<Body> {
        match read::<Blowup>(body).await {
            Ok(blowup) => {
                let mut blowups = self.blowups.lock();
                blowups.insert(blowup.kind, blowup);
                json(StatusCode::OK, &blowups.values().collect::<Vec<_>>())
            }
            Err(refused) => refused,
        }
    }

    /// What the faults that are switched on do to a request; latency delays it and lets it go on.
    async fn blow_up(&self) -> Option<Response<Body>> {
        let active: Vec<Blowup> = self.blowups.lock().values().filter(|b| b.active).cloned().collect();
        for blowup in active {
            match blowup.kind {
                Kind::Latency => {
                    let full = blowup.latency_ms.unwrap_or(1000);
                    let millis = if blowup.volatile {
                        rand::rng().random_range(0..=full)
                    } else {
                        full
                    };
                    tokio::time::sleep(Duration::from_millis(millis)).await;
                }
                Kind::Error => {
                    let drawn = rand::rng().random_range(0.0..100.0);
                    if drawn < blowup.percentage.unwrap_or(100.0) {
                        return Some(text(StatusCode::INTERNAL_SERVER_ERROR, Bytes::new()));
                    }
                }
            }
        }
        None
    }
}

async fn read<T: for<'de> Deserialize<'de>>(body: Incoming) -> Result<T, Response<Body>> {
    let refuse = |why: String| text(StatusCode::BAD_REQUEST, why);
    let bytes = Limited::new(body, MAX_BODY)
        .collect()
        .await
        .map_err(|error| refuse(error.to_string()))?;
    serde_json::from_slice(&bytes.to_bytes()).map_err(|error| refuse(error.to_string()))
}
