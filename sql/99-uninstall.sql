-- Takes away everything that 01 to 03 and the watcher made in this database: the slot, the publication, firstbad.context, the role.
--
--   psql -d shop -f sql/99-uninstall.sql
--
-- Run by a superuser, or by whoever made all of it. Stop the watcher first: a slot that is streamed is not dropped. A slot keeps log
-- for its watcher as long as it is there, so this is also how to let go of it. The store is not touched; it is a directory of yours.
--
-- It refuses rather than take away what is not firstbad's: a role that owns something, that is a superuser, or that may do something in
-- other databases; objects in the schema firstbad beside the function.
--
-- Variables:
--   slot, publication   default firstbad
--   role                default firstbad_watch

\set ON_ERROR_STOP on
\if :{?slot}
\else
  \set slot firstbad
\endif
\if :{?publication}
\else
  \set publication firstbad
\endif
\if :{?role}
\else
  \set role firstbad_watch
\endif

begin;
set local client_min_messages = warning;
select set_config('firstbad.slot', :'slot', true) as firstbad_slot,
       set_config('firstbad.publication', :'publication', true) as firstbad_publication,
       set_config('firstbad.role', :'role', true) as firstbad_role \gset

do $$
declare
  slot constant text := current_setting('firstbad.slot');
  publication constant text := current_setting('firstbad.publication');
  watcher constant text := current_setting('firstbad.role');
  id oid;
  holder int;
  other text;
begin
  select active_pid into holder from pg_replication_slots where slot_name = slot and active;
  if holder is not null then
    raise exception 'slot % is streamed by process %: stop the watcher first', slot, holder;
  end if;
  if exists (select from pg_replication_slots where slot_name = slot and database is distinct from current_database()) then
    raise exception 'slot % is not one of this database', slot;
  end if;

  execute format('drop publication if exists %I', publication);
  drop function if exists firstbad.context(jsonb);
  -- Without CASCADE: whatever else is in it keeps it, and all of this is undone.
  drop schema if exists firstbad;

  select oid into id from pg_roles where rolname = watcher;
  if id is not null then
    if (select rolsuper from pg_roles where oid = id) or id = current_user::regrole then
      raise exception '% is no role of a watcher', watcher;
    end if;
    if exists (select from pg_shdepend where refclassid = 'pg_authid'::regclass and refobjid = id and deptype = 'o') then
      raise exception 'role % owns something: see \dt, \dn, \l', watcher;
    end if;
    select d.datname into other
      from pg_shdepend s join pg_database d on d.oid = s.dbid
     where s.refclassid = 'pg_authid'::regclass and s.refobjid = id and d.datname <> current_database() limit 1;
    if other is not null then
      raise exception 'role % is used in database % as well', watcher, other
        using hint = 'to keep it, run this with -v role=none';
    end if;
    -- It owns nothing, so these are its privileges.
    execute format('drop owned by %I', watcher);
    execute format('drop role %I', watcher);
  end if;

  -- The last step, since it cannot be undone.
  perform pg_drop_replication_slot(slot_name) from pg_replication_slots where slot_name = slot;
end
$$;
commit;
