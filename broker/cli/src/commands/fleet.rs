//! Machines: sites, nodes, clouds, offers, join lines, and the broker's health and alerts.

use spillway_api::v1::{JoinTokenRequest, NodeAction, OffersQuery};
use spillway_api::{ApiError, Client, ClientError};
use spillway_types::NodeId;

use crate::args::{JoinArgs, NodeArgs, OffersArgs};
use crate::clock;
use crate::failure::{ERROR, Failure};
use crate::output::Output;
use crate::render::{fleet as render, value};

pub(super) async fn sites(client: &Client, output: &mut Output) -> Result<u8, Failure> {
    output.show(&client.sites().await?, render::sites);
    Ok(0)
}

pub(super) async fn nodes(client: &Client, output: &mut Output) -> Result<u8, Failure> {
    output.show(&client.nodes().await?, render::nodes);
    Ok(0)
}

pub(super) async fn clouds(client: &Client, output: &mut Output) -> Result<u8, Failure> {
    output.show(&client.clouds().await?, render::clouds);
    Ok(0)
}

pub(super) async fn alerts(client: &Client, output: &mut Output) -> Result<u8, Failure> {
    let told = client.alerts().await?;
    if told.items.is_empty() {
        output.talk(
            "nobody is told of limits that fill up: name somebody as `[[alerts]]` in the broker's settings",
        );
    }
    output.show(&told, render::alerts);
    Ok(0)
}

pub(super) async fn offers(client: &Client, args: OffersArgs, output: &mut Output) -> Result<u8, Failure> {
    output.show(&client.offers(&OffersQuery { gpus: args.gpus }).await?, render::offers);
    Ok(0)
}

pub(super) async fn join(client: &Client, args: JoinArgs, output: &mut Output) -> Result<u8, Failure> {
    let request = JoinTokenRequest { site: args.site, pool: args.pool, ttl: args.ttl };
    let line = client.create_join_token(&request).await?;
    output.talk(&format!(
        "run this on the machine; the line works once, until {} ({})",
        line.expires,
        value::age(clock::now(), line.expires)
    ));
    output.show(&line, render::join_line);
    Ok(0)
}

/// Changes a node that is named by its id or its host name.
pub(super) async fn change(
    client: &Client,
    args: &NodeArgs,
    action: NodeAction,
    output: &mut Output,
) -> Result<u8, Failure> {
    let id = match args.node.parse::<NodeId>() {
        Ok(id) => id,
        Err(_) => by_hostname(client, &args.node).await?,
    };
    let node = client.change_node(id, action).await?;
    output.show(&node, render::node);
    Ok(0)
}

async fn by_hostname(client: &Client, hostname: &str) -> Result<NodeId, Failure> {
    let nodes = client.nodes().await?;
    let mut found = nodes.items.iter().filter(|node| node.hostname == hostname).map(|node| node.id);
    match (found.next(), found.next()) {
        (Some(id), None) => Ok(id),
        (Some(_), Some(_)) => {
            let refused = ApiError::invalid(format!("several nodes have the host name `{hostname}`"));
            Err(ClientError::Api(refused.hint("give the id: `spillway nodes` shows it")).into())
        }
        (None, _) => {
            let refused = ApiError::not_found("node", &hostname);
            Err(ClientError::Api(refused.hint("`spillway nodes` lists ids and host names")).into())
        }
    }
}

pub(super) async fn health(client: &Client, output: &mut Output) -> Result<u8, Failure> {
    let health = client.health().await?;
    output.show(&health, render::health);
    if health.is_well() {
        return Ok(0);
    }
    output.talk("the broker is not well: see mode, invariants and ledger");
    Ok(ERROR)
}
