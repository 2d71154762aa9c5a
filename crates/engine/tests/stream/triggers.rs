//! Triggers and rules of the target: the source's have acted already.

use pgstream_engine::{stream::Error, target::enable_triggers};
use pgstream_postgres::Session;

use crate::harness::{Pair, Running, pair, server};

const AUDITED: &str = "CREATE TABLE item (id int PRIMARY KEY); CREATE TABLE audit (id int);
    CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS
       'BEGIN INSERT INTO public.audit VALUES (coalesce(NEW.id, OLD.id)); RETURN NEW; END';
    CREATE TRIGGER \"no\"\"ted; x\" AFTER INSERT ON item FOR EACH ROW EXECUTE FUNCTION note();";

fn without_replica_role(pair: &Pair) -> pgstream_engine::stream::Job {
    let mut job = pair.job();
    job.disable_triggers = Some(false);
    job
}

async fn enabled(pair: &Pair) -> i64 {
    pair.there.scalar("SELECT count(*) FROM pg_trigger WHERE NOT tgisinternal AND tgenabled <> 'D'").await
}

#[tokio::test]
async fn an_ordinary_trigger_rests_until_cutover() {
    let pair = pair(AUDITED).await;
    // Of another state than the stream would give it: left as it is.
    pair.there.batch("CREATE TRIGGER mine AFTER DELETE ON item FOR EACH ROW EXECUTE FUNCTION note(); ALTER TABLE item DISABLE TRIGGER mine").await;
    // As replica the trigger rests by itself: the audit rows come from the source, once.
    pair.follows("INSERT INTO item VALUES (1), (2)").await;
    assert_eq!(enabled(&pair).await, 1);
    for round in 0..2 {
        let running = Running::start(without_replica_role(&pair));
        pair.here.batch(&format!("INSERT INTO item SELECT {round} * 100 + n FROM generate_series(10, 30) AS n")).await;
        pair.caught_up(&running).await;
        pair.assert_same().await;
        running.stop().await.unwrap();
    }
    assert_eq!(enabled(&pair).await, 0);
    let mut client = server(&pair.target.url("app")).connect(&Session::new("test")).await.unwrap();
    let again = enable_triggers(&mut client).await.unwrap();
    assert_eq!(again.iter().map(|trigger| trigger.name.as_str()).collect::<Vec<_>>(), ["no\"ted; x"]);
    assert_eq!(enabled(&pair).await, 1);
    assert!(enable_triggers(&mut client).await.unwrap().is_empty(), "nothing is left on record");
}

#[tokio::test]
async fn triggers_of_partitions_and_of_tables_that_rows_cascade_to_rest() {
    let pair = pair(
        "CREATE TABLE audit (id int);
         CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS
            'BEGIN INSERT INTO public.audit VALUES (coalesce(NEW.id, OLD.id)); RETURN NULL; END';
         CREATE TABLE m (id int PRIMARY KEY) PARTITION BY RANGE (id);
         CREATE TABLE m_low PARTITION OF m FOR VALUES FROM (0) TO (20); CREATE TABLE m_rest PARTITION OF m DEFAULT;
         CREATE TABLE child (id int PRIMARY KEY, p int REFERENCES m ON DELETE CASCADE);
         CREATE TRIGGER t AFTER INSERT ON m FOR EACH ROW EXECUTE FUNCTION note();
         CREATE TRIGGER u AFTER INSERT ON m_low FOR EACH ROW EXECUTE FUNCTION note();
         CREATE TRIGGER v AFTER DELETE ON child FOR EACH ROW EXECUTE FUNCTION note();",
    )
    .await;
    for root in [false, true] {
        let publication = crate::harness::PUBLICATION;
        pair.here.batch(&format!("ALTER PUBLICATION {publication} SET (publish_via_partition_root = {root})")).await;
        let running = Running::start(without_replica_role(&pair));
        pair.here
            .batch("INSERT INTO m SELECT generate_series(10, 30); INSERT INTO child SELECT n, n FROM generate_series(10, 30) AS n; DELETE FROM m WHERE id < 25; DELETE FROM m")
            .await;
        pair.caught_up(&running).await;
        pair.assert_same().await;
        running.stop().await.unwrap();
        let mut client = server(&pair.target.url("app")).connect(&Session::new("test")).await.unwrap();
        assert!(!enable_triggers(&mut client).await.unwrap().is_empty());
        assert_eq!(enabled(&pair).await, 5);
    }
}

#[tokio::test]
async fn a_trigger_on_somebody_elses_table_is_refused_with_what_to_type() {
    let pair = pair(AUDITED).await;
    pair.there
        .batch(
            "CREATE ROLE app LOGIN PASSWORD 'app'; GRANT CREATE, CONNECT ON DATABASE app TO app;
             GRANT ALL ON ALL TABLES IN SCHEMA public TO app",
        )
        .await;
    let mut job = pair.job();
    job.disable_triggers = None;
    job.destination = pgstream_engine::stream::Destination::Postgres(server(&pair.target.url_as("app", "app", "app")));
    let running = Running::start(job.clone());
    pair.here.batch("INSERT INTO item VALUES (1)").await;
    let error = running.failure().await;
    let Error::Triggers { objects } = &error else { panic!("{error}") };
    assert!(objects[0].contains("ALTER TABLE \"public\".\"item\" DISABLE TRIGGER \"no\"\"ted; x\""), "{error}");
    assert_eq!(pair.there.scalar::<i64>("SELECT count(*) FROM item").await, 0);
    // As a member of the owner it helps itself.
    pair.there.batch("ALTER TABLE item OWNER TO app").await;
    let running = Running::start(job);
    pair.caught_up(&running).await;
    pair.assert_same().await;
    running.stop().await.unwrap();
}

#[tokio::test]
async fn a_rule_is_refused() {
    let pair = pair("CREATE TABLE item (id int PRIMARY KEY); CREATE TABLE audit (id int);").await;
    pair.there.batch("CREATE RULE copied AS ON INSERT TO item DO ALSO INSERT INTO audit VALUES (NEW.id)").await;
    let running = Running::start(without_replica_role(&pair));
    pair.here.batch("INSERT INTO item VALUES (1)").await;
    let error = running.failure().await;
    assert!(matches!(&error, Error::Triggers { objects } if objects[0].contains("rule \"copied\"")), "{error}");
}
