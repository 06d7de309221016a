//! The API keys and usage plans of producers in API Gateway.

use anyhow::Context as _;
use aws_sdk_apigateway::{
    Client,
    operation::{
        delete_api_key::DeleteApiKeyError, delete_usage_plan::DeleteUsagePlanError,
        update_usage_plan::UpdateUsagePlanError,
    },
    types::{ApiStage, Op, PatchOperation, ThrottleSettings, UsagePlan},
};
use custody_core::access::Credential;

/// The stage of the API, as the template names it.
const STAGE: &str = "Prod";

/// A key of API Gateway that was created a moment ago.
pub(super) struct NewApiKey {
    pub(super) id: String,
    /// The value that callers send in `x-api-key`. It is a secret.
    pub(super) value: String,
}

impl NewApiKey {
    pub(super) fn credential(&self) -> Credential {
        Credential::ApiKey(self.id.clone())
    }
}

/// A limit of requests: a steady rate in requests per second, and the size of a burst.
#[derive(Clone, Copy, Debug)]
pub(super) struct RateLimit {
    pub(super) per_second: u32,
    pub(super) burst: u32,
}

/// The API keys of a deployment's API.
pub(crate) struct ApiKeys {
    pub(crate) client: Client,
    pub(crate) api_id: String,
    /// The usage plan of the keys of producers that have no plan of their own. Its limit applies to each key separately.
    pub(crate) shared_plan: String,
    pub(crate) stack_name: String,
}

impl ApiKeys {
    /// Creates an API key of a principal. The key is accepted nowhere before it is in a usage plan.
    pub(super) async fn create(&self, principal: &str) -> anyhow::Result<NewApiKey> {
        let created = self
            .client
            .create_api_key()
            .name(self.name_of(principal))
            .description(format!("Custody, principal {principal}"))
            .enabled(true)
            .send()
            .await
            .context("create an API key")?;
        let id = created.id.context("API Gateway returned no id of the API key")?;
        let value = created.value.context("API Gateway returned no value of the API key")?;
        Ok(NewApiKey { id, value })
    }

    /// Makes the API accept a key, by the principal's own usage plan if there is one, or else by the shared plan.
    pub(super) async fn accept(&self, principal: &str, key: &NewApiKey) -> anyhow::Result<()> {
        let own = self.own_plan(principal).await?.and_then(|plan| plan.id);
        let plan = own.as_ref().unwrap_or(&self.shared_plan);
        let add = self.client.create_usage_plan_key().usage_plan_id(plan).key_id(&key.id).key_type("API_KEY");
        add.send().await.with_context(|| format!("add the API key to usage plan {plan}"))?;
        Ok(())
    }

    /// Creates a usage plan with this limit for the keys of one principal.
    pub(super) async fn create_plan(&self, principal: &str, limit: RateLimit) -> anyhow::Result<()> {
        let throttle = ThrottleSettings::builder()
            .rate_limit(f64::from(limit.per_second))
            .burst_limit(i32::try_from(limit.burst).unwrap_or(i32::MAX))
            .build();
        self.client
            .create_usage_plan()
            .name(self.name_of(principal))
            .description(format!("Custody, principal {principal}"))
            .api_stages(ApiStage::builder().api_id(&self.api_id).stage(STAGE).build())
            .throttle(throttle)
            .send()
            .await
            .context("create a usage plan")?;
        Ok(())
    }

    /// Deletes an API key. Success if there is none.
    pub(super) async fn delete(&self, id: &str) -> anyhow::Result<()> {
        match self.client.delete_api_key().api_key(id).send().await {
            Ok(_) => Ok(()),
            Err(error) if error.as_service_error().is_some_and(DeleteApiKeyError::is_not_found_exception) => {
                Ok(())
            }
            Err(error) => Err(error).with_context(|| format!("delete API key {id}")),
        }
    }

    /// Deletes the usage plan of one principal. Success if there is none.
    pub(super) async fn delete_plan(&self, principal: &str) -> anyhow::Result<()> {
        let Some(id) = self.own_plan(principal).await?.and_then(|plan| plan.id) else { return Ok(()) };
        // API Gateway refuses to delete a plan that has stages. Source: API reference, DeleteUsagePlan.
        let stage = format!("{}:{STAGE}", self.api_id);
        let removal = PatchOperation::builder().op(Op::Remove).path("/apiStages").value(stage).build();
        let removed =
            self.client.update_usage_plan().usage_plan_id(&id).patch_operations(removal).send().await;
        let is_gone = |error: &UpdateUsagePlanError| error.is_not_found_exception();
        match removed {
            Err(error) if !error.as_service_error().is_some_and(is_gone) => {
                return Err(error).with_context(|| format!("remove the API from usage plan {id}"));
            }
            _ => {}
        }
        match self.client.delete_usage_plan().usage_plan_id(&id).send().await {
            Err(error)
                if !error.as_service_error().is_some_and(DeleteUsagePlanError::is_not_found_exception) =>
            {
                Err(error).with_context(|| format!("delete usage plan {id}"))
            }
            _ => Ok(()),
        }
    }

    async fn own_plan(&self, principal: &str) -> anyhow::Result<Option<UsagePlan>> {
        let name = self.name_of(principal);
        let mut plans = self.client.get_usage_plans().into_paginator().items().send();
        while let Some(plan) = plans.next().await {
            let plan = plan.context("list the usage plans")?;
            // Another deployment may have a stack and a principal whose names make the same text.
            let is_of_api = plan.api_stages().iter().any(|stage| stage.api_id() == Some(&self.api_id));
            if plan.name() == Some(&name) && is_of_api {
                return Ok(Some(plan));
            }
        }
        Ok(None)
    }

    /// Returns the name of a principal's API keys and usage plan.
    fn name_of(&self, principal: &str) -> String {
        format!("{}-{principal}", self.stack_name)
    }
}
