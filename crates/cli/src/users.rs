//! `pgstream-aws users plan|apply`.

use pgstream_aws_api::{
    AccessError, Aws, Settings,
    secrets::{
        Store,
        made::{self, Place},
    },
};
use pgstream_config::{SecretUrl, pipeline::Access};
use pgstream_engine::users::{self, Duties, Owners, Role, Step};
use pgstream_postgres::{Server, Session};
use secrecy::{ExposeSecret as _, SecretString};

use crate::{
    arguments::{UserMode, UserRole, Users, UsersArgs},
    configure,
    failure::Failure,
    output,
};

/// Prints or carries out what a role needs.
pub async fn run(arguments: &Users) -> Result<(), Failure> {
    let plan = match arguments {
        Users::Plan(plan) => plan,
        Users::Apply(apply) => &apply.plan,
    };
    let server = server("--admin-url", &plan.admin_url).await?;
    let mut client = server.connect(&Session::new("pgstream-aws users")).await?;
    let (role, duties) = wanted(plan).await?;
    let steps = users::plan(&client, role, &duties).await?;
    show(role, &steps, plan.json)?;
    let Users::Apply(apply) = arguments else { return Ok(()) };
    if !apply.yes && !confirmed()? {
        return Err(Failure::NotConfirmed);
    }
    let dbname = server.dsn().dbname();
    let secret = apply.secret.clone().unwrap_or_else(|| format!("pgstream/{dbname}/{}", role.name()));
    let (host, port) = server.dsn().host_names().next().unwrap_or(("localhost", 5432));
    let place = Place { user: role.name(), host, port, dbname };
    let aws = Box::pin(Aws::load(&Settings::default())).await.map_err(AccessError::from)?;
    let store = Store::of(&aws, &secret);
    let password = Box::pin(made::password(&store, &secret, place)).await.map_err(AccessError::from)?;
    users::apply(&mut client, role, &steps, password.expose_secret()).await?;
    if !plan.json {
        output::line(format_args!("Done: {} logs in with secretsmanager://{secret}", role.name()));
    }
    Ok(())
}

fn confirmed() -> Result<bool, Failure> {
    use std::io::IsTerminal as _;
    if !std::io::stdin().is_terminal() {
        return Err(Failure::NobodyToAsk);
    }
    let asked = dialoguer::Confirm::new().with_prompt("Run these statements?").default(false).interact();
    Ok(asked.unwrap_or(false))
}

async fn server(flag: &'static str, url: &str) -> Result<Server, Failure> {
    let access = match SecretUrl::parse(url) {
        Some(Ok(url)) => Access::Secret { secret: url.secret, identifier: None },
        _ => Access::Url,
    };
    configure::server(flag, &SecretString::from(url), &access).await
}

async fn wanted(plan: &UsersArgs) -> Result<(Role, Duties), Failure> {
    let role = match plan.role {
        UserRole::Source => Role::Source,
        UserRole::Target => Role::Target,
        UserRole::Monitor => Role::Monitor,
    };
    let owners = match (&plan.source_url, role) {
        (Some(url), Role::Target) => {
            let source = server("--source-url", url).await?;
            Some(Owners::read(&source.connect(&Session::new("pgstream-aws users")).await?).await?)
        }
        _ => None,
    };
    let duties = Duties {
        copy: plan.mode != UserMode::Replication,
        follow: plan.mode != UserMode::Snapshot,
        init: plan.with_init,
        hand_over: plan.hand_over,
        create_databases: plan.createdb,
        create_roles: plan.createrole,
        roles_come: plan.createrole,
        no_privileges: plan.no_privileges,
        owners,
    };
    Ok((role, duties))
}

/// SQL that can be run as it is: what holds already is a comment.
fn show(role: Role, steps: &[Step], json: bool) -> Result<(), Failure> {
    if json {
        return output::json(&serde_json::json!({ "role": role.name(), "steps": steps }));
    }
    for step in steps {
        let mark = if step.present { "-- there: " } else { "" };
        output::line(format_args!("{mark}{};  -- {}", step.sql, step.why));
    }
    Ok(())
}
