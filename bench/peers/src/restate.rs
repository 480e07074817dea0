//! The order on Restate, with its own SDK: as a saga, one handler with four journaled steps and a result, or as reactions, a
//! chain of five handlers that each hand on to the next. Service and load are this process.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use clap::{Args, ValueEnum};
use reqwest::{Client, Method, Response, StatusCode};
use restate_sdk::endpoint::ServiceOptions;
use restate_sdk::prelude::*;
use restate_sdk::service::IntoServiceDefinition;
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;

use crate::Failure;
use crate::course::{Course, Entry, Figures, Load};

/// Where the server is, and which way an order goes.
#[derive(Args)]
pub(crate) struct Restate {
    /// http://HOST:PORT of the ingress
    #[arg(long)]
    ingress: String,
    /// http://HOST:PORT of the administration
    #[arg(long)]
    admin: String,
    /// Which way an order goes
    #[arg(long, value_enum, default_value_t = Style::Saga)]
    style: Style,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Style {
    /// One handler with four steps; the order ends when the caller has its result.
    Saga,
    /// Five handlers, each called one-way by the one before; the order ends in the last.
    Choreography,
}

#[derive(Clone, Serialize, Deserialize)]
struct Order {
    order: String,
}

struct Fulfilment;

#[service]
impl Fulfilment {
    #[handler]
    async fn fulfil(&self, context: Context<'_>, order: Json<Order>) -> Result<Json<Order>, HandlerError> {
        for step in ["pay", "reserve", "ship", "notify"] {
            context.run(async || Ok(())).name(step).await?;
        }
        Ok(order)
    }
}

struct Reactions {
    course: Arc<Course>,
}

#[service]
impl Reactions {
    #[handler]
    async fn pay(&self, context: Context<'_>, order: Json<Order>) -> Result<(), HandlerError> {
        context.service_client::<ReactionsClient<'_>>().reserve(order).send();
        Ok(())
    }

    #[handler]
    async fn reserve(&self, context: Context<'_>, order: Json<Order>) -> Result<(), HandlerError> {
        context.service_client::<ReactionsClient<'_>>().ship(order).send();
        Ok(())
    }

    #[handler]
    async fn ship(&self, context: Context<'_>, order: Json<Order>) -> Result<(), HandlerError> {
        context.service_client::<ReactionsClient<'_>>().notify(order).send();
        Ok(())
    }

    #[handler]
    async fn notify(&self, context: Context<'_>, order: Json<Order>) -> Result<(), HandlerError> {
        context.service_client::<ReactionsClient<'_>>().close(order).send();
        Ok(())
    }

    #[handler]
    async fn close(&self, _context: Context<'_>, order: Json<Order>) -> Result<(), HandlerError> {
        self.course.finished(order.into_inner().order.parse()?);
        Ok(())
    }
}

impl Restate {
    /// Serves the handlers, registers them, and puts the load on them.
    pub(crate) async fn run(self, load: Load) -> Result<Figures, Failure> {
        let course = Course::new();
        // What has ended need not be kept: the least that Restate can be asked to write.
        let forget = || ServiceOptions::new().journal_retention(Duration::ZERO);
        let reactions = Reactions { course: Arc::clone(&course) };
        let endpoint = Endpoint::builder()
            .bind(Fulfilment.into_service_definition().options(forget()))
            .bind(reactions.into_service_definition().options(forget()))
            .build();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let uri = format!("http://{}", listener.local_addr()?);
        let serving = tokio::spawn(HttpServer::new(endpoint).serve(listener));
        let client = Client::builder().http2_prior_knowledge().build()?;
        register(&client, &self.admin, &uri).await?;
        let entry = Ingress { client, url: self.ingress, style: self.style, course: Arc::clone(&course) };
        let figures = course.run(entry, load).await;
        serving.abort();
        figures
    }
}

async fn register(client: &Client, admin: &str, uri: &str) -> Result<(), Failure> {
    let body = serde_json::json!({ "uri": uri, "force": true }).to_string();
    let request = client.request(Method::POST, format!("{admin}/deployments"));
    expect_success(request.header("content-type", "application/json").body(body).send().await?).await
}

/// The way in.
struct Ingress {
    client: Client,
    url: String,
    style: Style,
    course: Arc<Course>,
}

impl Entry for Ingress {
    async fn place(&self, order: u64) -> Result<(), Failure> {
        let body = Bytes::from(format!(r#"{{"order":"{order}"}}"#));
        match self.style {
            Style::Choreography => call(&self.client, format!("{}/Reactions/pay/send", self.url), body).await,
            // The one request that places it also brings the result, so the publisher goes on without waiting for it.
            Style::Saga => {
                let (client, course) = (self.client.clone(), Arc::clone(&self.course));
                let url = format!("{}/Fulfilment/fulfil", self.url);
                tokio::spawn(async move {
                    match call(&client, url, body).await {
                        Ok(()) => course.finished(order),
                        Err(failure) => eprintln!("peers: order {order}: {failure}"),
                    }
                });
                Ok(())
            }
        }
    }
}

async fn call(client: &Client, url: String, body: Bytes) -> Result<(), Failure> {
    let request = client.post(url).header("content-type", "application/json").body(body);
    expect_success(request.send().await?).await
}

async fn expect_success(response: Response) -> Result<(), Failure> {
    let status: StatusCode = response.status();
    let text = response.text().await?;
    if status.is_success() { Ok(()) } else { Err(format!("Restate answers {status}: {text}").into()) }
}
