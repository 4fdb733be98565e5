//! Machines and the broker itself: sites, nodes, clouds, offers, join lines, health, and who is told of what.

use reqwest::Method;
use spillway_types::NodeId;

use super::{ANSWER_TIMEOUT, Client, ClientError};
use crate::route;
use crate::v1::{
    CloudView, DestinationView, HealthView, JoinLine, JoinTokenRequest, NodeAction, NodeView, OfferView,
    OffersQuery, Page, SiteView,
};

impl Client {
    /// The sites.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn sites(&self) -> Result<Page<SiteView>, ClientError> {
        self.read(route::SITES, &()).await
    }

    /// The nodes.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn nodes(&self) -> Result<Page<NodeView>, ClientError> {
        self.read(route::NODES, &()).await
    }

    /// Changes a node.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn change_node(&self, id: NodeId, action: NodeAction) -> Result<NodeView, ClientError> {
        self.answer(self.request(Method::POST, &route::node_action(id, action)), ANSWER_TIMEOUT).await
    }

    /// The clouds with their instances.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn clouds(&self) -> Result<Page<CloudView>, ClientError> {
        self.read(route::CLOUDS, &()).await
    }

    /// What clouds would launch.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn offers(&self, query: &OffersQuery) -> Result<Page<OfferView>, ClientError> {
        self.read(route::OFFERS, query).await
    }

    /// Makes a join token.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn create_join_token(&self, request: &JoinTokenRequest) -> Result<JoinLine, ClientError> {
        self.send(Method::POST, route::JOIN_TOKENS, request).await
    }

    /// The broker's health.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn health(&self) -> Result<HealthView, ClientError> {
        self.read(route::HEALTH, &()).await
    }

    /// Who is told of limits that fill up, and what waits for them.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn alerts(&self) -> Result<Page<DestinationView>, ClientError> {
        self.read(route::ALERTS, &()).await
    }
}
