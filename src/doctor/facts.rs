//! What a server answers about itself, in one read-only transaction.

use std::collections::{BTreeSet, HashMap};

use tokio_postgres::Client;

use crate::postgres::slot::{self, SlotState};
use crate::postgres::{Access, Catalog, Lsn, PostgresError, Session, Target};
use crate::schema::TableName;

/// The oldest server whose publications can hide rows and columns.
pub(super) const FILTERS_SINCE: u32 = 150_000;

/// Settings that matter.
const SETTINGS: [&str; 10] = [
    "wal_level",
    "max_replication_slots",
    "max_wal_senders",
    "max_slot_wal_keep_size",
    "wal_sender_timeout",
    "idle_replication_slot_timeout",
    "logical_decoding_work_mem",
    "hot_standby_feedback",
    "server_encoding",
    "max_prepared_transactions",
];

/// Who runs the server: what is set by SQL elsewhere is set in a console there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Host {
    #[default]
    Own,
    /// RDS and Aurora.
    Amazon,
    /// Cloud SQL.
    Google,
    /// AlloyDB.
    AlloyDb,
    /// Azure Database for PostgreSQL.
    Azure,
}

/// A setting: its number in the setting's own unit, and as `SHOW` prints it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Setting {
    pub(super) raw: String,
    pub(super) shown: String,
}

/// A publication that is there.
#[derive(Clone, Debug, Default)]
pub(super) struct Publication {
    pub(super) all_tables: bool,
    /// Whether it publishes inserts, updates, deletes and truncates.
    pub(super) all_operations: bool,
    pub(super) via_root: bool,
    pub(super) owner: String,
    /// Whether our role may change it.
    pub(super) is_ours: bool,
    /// The tables that it tells of.
    pub(super) tables: BTreeSet<(String, String)>,
    /// Tables of which it hides rows or columns.
    pub(super) hidden: Vec<TableName>,
    /// Tables and partitions whose owners' UPDATEs and DELETEs fail, because they have no identity.
    pub(super) without_identity: Vec<TableName>,
}

/// What a server says of itself, of our role, of a slot and a publication.
#[derive(Debug, Default)]
pub struct Facts {
    pub(crate) catalog: Catalog,
    pub(super) version: u32,
    pub(super) version_text: String,
    pub(super) database: String,
    pub(super) role: String,
    pub(super) host: Host,
    pub(super) in_recovery: bool,
    /// Whether the role may stream.
    pub(super) may_replicate: bool,
    /// Whether it may make publications in the database.
    pub(super) may_create: bool,
    /// Whether it sees what others run.
    pub(super) sees_others: bool,
    pub(super) settings: HashMap<String, Setting>,
    pub(super) slots_used: i64,
    pub(super) senders_used: i64,
    /// Oids of tables that the role owns, also through other roles.
    pub(super) owned: BTreeSet<u32>,
    /// Schemas that it may not use.
    pub(super) closed_schemas: BTreeSet<String>,
    pub(super) slot: Option<SlotState>,
    /// Bytes of log that the server keeps for the slot.
    pub(super) retained_bytes: u64,
    pub(super) publication: Option<Publication>,
    pub(super) has_context: bool,
    /// How long the oldest transaction that has written is open, in seconds.
    pub(super) oldest_s: Option<f64>,
    /// The same of prepared transactions.
    pub(super) oldest_prepared_s: Option<f64>,
    pub(super) sequences: i64,
    pub(super) large_objects: bool,
}

impl Facts {
    /// Asks a server.
    ///
    /// # Errors
    /// A name that no slot can have; a server that cannot be reached or does not answer.
    pub async fn ask(
        target: &Target,
        slot: &str,
        publication: &str,
    ) -> Result<Facts, PostgresError> {
        slot::valid_slot(slot)?;
        let session = Session::open(target, "firstbad doctor", Access::ReadOnly).await?;
        let client = session.client();
        client
            .batch_execute("begin isolation level repeatable read, read only")
            .await?;
        let mut facts = Facts {
            catalog: Catalog::read(client).await?,
            version: session.server_version_num(),
            settings: settings(client).await?,
            slot: slot::slot_state(&session, slot).await?,
            ..Facts::default()
        };
        facts.ask_server(client).await?;
        facts.ask_log(client).await?;
        facts.ask_privileges(client).await?;
        facts.publication = asked_publication(client, facts.version, publication).await?;
        client.batch_execute("rollback").await?;
        session.close().await;
        Ok(facts)
    }

    async fn ask_server(&mut self, client: &Client) -> Result<(), PostgresError> {
        let sql = "select split_part(current_setting('server_version'), ' ', 1), current_database()::text, current_user::text, pg_is_in_recovery(), \
                   r.rolsuper or r.rolreplication \
                     or exists (select from pg_roles m where m.rolname = 'rds_replication' and pg_has_role(m.oid, 'usage')), \
                   has_database_privilege(current_database(), 'create'), \
                   exists (select from pg_roles m where m.rolname = 'pg_read_all_stats' and pg_has_role(m.oid, 'usage')), \
                   (select array_agg(m.rolname::text) from pg_roles m where m.rolname in \
                     ('rds_superuser', 'cloudsqlsuperuser', 'alloydbsuperuser', 'azure_pg_admin')), \
                   to_regprocedure('firstbad.context(jsonb)') is not null, \
                   (select count(*) from pg_class c join pg_namespace n on n.oid = c.relnamespace where c.relkind = 'S' \
                     and n.nspname !~ '^pg_' and n.nspname <> 'information_schema'), \
                   exists (select from pg_largeobject_metadata) \
                   from pg_roles r where r.rolname = current_user";
        let row = client.query_one(sql, &[]).await?;
        self.version_text = row.try_get(0)?;
        self.database = row.try_get(1)?;
        self.role = row.try_get(2)?;
        self.in_recovery = row.try_get(3)?;
        self.may_replicate = row.try_get(4)?;
        self.may_create = row.try_get(5)?;
        self.sees_others = row.try_get(6)?;
        let known: Option<Vec<String>> = row.try_get(7)?;
        let known = known.unwrap_or_default();
        let is = |name: &str| known.iter().any(|one| one == name);
        self.host = match () {
            () if is("rds_superuser") => Host::Amazon,
            () if is("alloydbsuperuser") => Host::AlloyDb,
            () if is("cloudsqlsuperuser") => Host::Google,
            () if is("azure_pg_admin") => Host::Azure,
            () => Host::Own,
        };
        self.has_context = row.try_get(8)?;
        self.sequences = row.try_get(9)?;
        self.large_objects = row.try_get(10)?;
        Ok(())
    }

    /// Slots, senders, and what holds the log back.
    async fn ask_log(&mut self, client: &Client) -> Result<(), PostgresError> {
        let sql = "select (case when pg_is_in_recovery() then pg_last_wal_replay_lsn() else pg_current_wal_lsn() end)::text, \
                   (select count(*) from pg_replication_slots), (select count(*) from pg_stat_replication), \
                   (select max(extract(epoch from clock_timestamp() - xact_start))::float8 from pg_stat_activity \
                     where backend_xid is not null and pid <> pg_backend_pid()), \
                   (select max(extract(epoch from clock_timestamp() - prepared))::float8 from pg_prepared_xacts)";
        let row = client.query_one(sql, &[]).await?;
        let end: Option<String> = row.try_get(0)?;
        let end: Option<Lsn> = end.and_then(|text| text.parse().ok());
        let from = self.slot.as_ref().and_then(|slot| slot.restart_lsn);
        self.retained_bytes = match (end, from) {
            (Some(end), Some(from)) => end.0.saturating_sub(from.0),
            _ => 0,
        };
        self.slots_used = row.try_get(1)?;
        self.senders_used = row.try_get(2)?;
        self.oldest_s = row.try_get(3)?;
        self.oldest_prepared_s = row.try_get(4)?;
        Ok(())
    }

    async fn ask_privileges(&mut self, client: &Client) -> Result<(), PostgresError> {
        let owned = "select oid from pg_class where relkind in ('r', 'p') and pg_has_role(relowner, 'usage')";
        for row in client.query(owned, &[]).await? {
            self.owned.insert(row.try_get(0)?);
        }
        let closed =
            "select nspname::text from pg_namespace where not has_schema_privilege(oid, 'usage')";
        for row in client.query(closed, &[]).await? {
            self.closed_schemas.insert(row.try_get(0)?);
        }
        Ok(())
    }

    /// A setting's number in its own unit; None where the server has no such setting.
    pub(super) fn number(&self, name: &str) -> Option<i64> {
        self.settings.get(name)?.raw.parse().ok()
    }

    /// A setting as `SHOW` prints it.
    pub(super) fn shown(&self, name: &str) -> &str {
        self.settings.get(name).map_or("", |setting| &setting.shown)
    }
}

async fn settings(client: &Client) -> Result<HashMap<String, Setting>, PostgresError> {
    let names: Vec<&str> = SETTINGS.to_vec();
    let sql = "select name, setting, current_setting(name) from pg_settings where name = any($1)";
    let mut found = HashMap::new();
    for row in client.query(sql, &[&names]).await? {
        let setting = Setting {
            raw: row.try_get(1)?,
            shown: row.try_get(2)?,
        };
        found.insert(row.try_get(0)?, setting);
    }
    Ok(found)
}

async fn asked_publication(
    client: &Client,
    version: u32,
    name: &str,
) -> Result<Option<Publication>, PostgresError> {
    // The row as JSON, since older servers lack some of its columns.
    let sql = "select puballtables, pubinsert and pubupdate and pubdelete and pubtruncate, \
               coalesce((to_jsonb(p) ->> 'pubviaroot')::bool, false), pg_get_userbyid(pubowner)::text, pg_has_role(pubowner, 'usage') \
               from pg_publication p where pubname = $1";
    let Some(row) = client.query_opt(sql, &[&name]).await? else {
        return Ok(None);
    };
    let mut found = Publication {
        all_tables: row.try_get(0)?,
        all_operations: row.try_get(1)?,
        via_root: row.try_get(2)?,
        owner: row.try_get(3)?,
        is_ours: row.try_get(4)?,
        ..Publication::default()
    };
    let sql =
        "select schemaname::text, tablename::text from pg_publication_tables where pubname = $1";
    for row in client.query(sql, &[&name]).await? {
        found.tables.insert((row.try_get(0)?, row.try_get(1)?));
    }
    if version >= FILTERS_SINCE {
        let sql = "select n.nspname::text, c.relname::text from pg_publication_rel r join pg_publication p on p.oid = r.prpubid \
                   join pg_class c on c.oid = r.prrelid join pg_namespace n on n.oid = c.relnamespace \
                   where p.pubname = $1 and (r.prqual is not null or r.prattrs is not null) order by 1, 2";
        found.hidden = names(client, sql, name).await?;
    }
    let sql = "with recursive tree as ( \
                 select c.oid from pg_publication_tables t join pg_namespace n on n.nspname = t.schemaname \
                 join pg_class c on c.relnamespace = n.oid and c.relname = t.tablename where t.pubname = $1 \
                 union select i.inhrelid from pg_inherits i join tree on i.inhparent = tree.oid \
                 join pg_class k on k.oid = i.inhrelid where k.relispartition) \
               select n.nspname::text, c.relname::text from tree join pg_class c on c.oid = tree.oid \
               join pg_namespace n on n.oid = c.relnamespace join pg_publication p on p.pubname = $1 \
               where c.relkind = 'r' and (p.pubupdate or p.pubdelete) and (c.relreplident = 'n' \
                 or c.relreplident = 'd' and not exists (select from pg_index x where x.indrelid = c.oid and x.indisprimary) \
                 or c.relreplident = 'i' and not exists (select from pg_index x where x.indrelid = c.oid and x.indisreplident)) \
               order by 1, 2";
    found.without_identity = names(client, sql, name).await?;
    Ok(Some(found))
}

async fn names(
    client: &Client,
    sql: &str,
    publication: &str,
) -> Result<Vec<TableName>, PostgresError> {
    let mut found = Vec::new();
    for row in client.query(sql, &[&publication]).await? {
        found.push(TableName::new(
            row.try_get::<_, String>(0)?,
            row.try_get::<_, String>(1)?,
        ));
    }
    Ok(found)
}
