-- firstbad.context(jsonb): an application says, within a transaction, who it is. The first bad write then names the service and its version.
--
--   psql -d shop -f sql/03-context.sql
--
--   begin;
--   select firstbad.context('{"service": "checkout", "version": "v2.14.0", "trace_id": "4bf92f35"}');
--   update orders set …;
--   commit;
--
-- Run by a role with CREATE on the database. The context is a message in the log (pg_logical_emit_message), not a row: it costs some bytes
-- of log a call, and nothing else. Several calls in a transaction add up, the later key wins. Only the transaction's own changes have it.
-- PostgreSQL 14 and later pass it on.
--
-- Variables:
--   grantee   who may call it; default public, which is everybody who may log in

\set ON_ERROR_STOP on
\if :{?grantee}
\else
  \set grantee public
\endif

begin;
set local client_min_messages = warning;
select set_config('firstbad.grantee', :'grantee', true) as firstbad_grantee \gset

create schema if not exists firstbad;
comment on schema firstbad is 'Helpers of firstbad, which names the first bad write; taken away by sql/99-uninstall.sql';

create or replace function firstbad.context(context jsonb) returns void
  language plpgsql volatile parallel unsafe
  set search_path = pg_catalog, pg_temp
as $$
begin
  if context is null then
    return;
  end if;
  if jsonb_typeof(context) <> 'object' then
    raise exception 'firstbad.context takes an object, not a %', jsonb_typeof(context)
      using errcode = 'invalid_parameter_value', hint = 'select firstbad.context(''{"service": "checkout", "version": "v2.14.0"}'')';
  end if;
  -- A standby writes no log.
  if not pg_is_in_recovery() then
    perform pg_logical_emit_message(true, 'firstbad', context::text);
  end if;
end
$$;
comment on function firstbad.context(jsonb) is 'Says in the log who makes this transaction: an object such as {"service": …, "version": …}';

-- Whoever had it before has it no more: what is granted is what is named.
do $$
declare
  grantee constant text := current_setting('firstbad.grantee');
  target constant text := case when lower(grantee) = 'public' then 'public' else quote_ident(grantee) end;
  one text;
begin
  revoke all on function firstbad.context(jsonb) from public;
  revoke all on schema firstbad from public;
  for one in
    select distinct quote_ident(r.rolname)
      from pg_proc p, aclexplode(p.proacl) held join pg_roles r on r.oid = held.grantee
     where p.oid = 'firstbad.context(jsonb)'::regprocedure and held.grantee <> p.proowner
  loop
    execute format('revoke all on function firstbad.context(jsonb) from %s', one);
    -- Who may call something else in the schema needs it still.
    if not exists (select from pg_proc p, aclexplode(p.proacl) held
                    where p.pronamespace = 'firstbad'::regnamespace and held.grantee = one::regrole) then
      execute format('revoke all on schema firstbad from %s', one);
    end if;
  end loop;
  execute format('grant usage on schema firstbad to %s', target);
  execute format('grant execute on function firstbad.context(jsonb) to %s', target);
end
$$;
commit;
