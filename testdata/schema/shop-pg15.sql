--
-- PostgreSQL database dump
--

\restrict Xk2mQ7pLr9sTfVb3WnYc

-- Dumped from database version 15.18 (Debian 15.18-0+deb12u1)
-- Dumped by pg_dump version 15.18 (Debian 15.18-0+deb12u1)

SET statement_timeout = 0;
SET lock_timeout = 0;
SET idle_in_transaction_session_timeout = 0;
SET client_encoding = 'UTF8';
SET standard_conforming_strings = on;
SELECT pg_catalog.set_config('search_path', '', false);
SET check_function_bodies = false;
SET xmloption = content;
SET client_min_messages = warning;
SET row_security = off;

--
-- Name: Odd Schema; Type: SCHEMA; Schema: -; Owner: app
--

CREATE SCHEMA "Odd Schema";


ALTER SCHEMA "Odd Schema" OWNER TO app;

--
-- Name: sales; Type: SCHEMA; Schema: -; Owner: app
--

CREATE SCHEMA sales;


ALTER SCHEMA sales OWNER TO app;

--
-- Name: address; Type: TYPE; Schema: public; Owner: app
--

CREATE TYPE public.address AS (
	street text,
	zip character varying(10)
);


ALTER TYPE public.address OWNER TO app;

--
-- Name: email; Type: DOMAIN; Schema: public; Owner: app
--

CREATE DOMAIN public.email AS text
	CONSTRAINT email_check CHECK ((VALUE ~ '^[^@;]+@[^@]+$'::text));


ALTER DOMAIN public.email OWNER TO app;

--
-- Name: order_status; Type: TYPE; Schema: public; Owner: app
--

CREATE TYPE public.order_status AS ENUM (
    'draft',
    'placed',
    'paid',
    'it''s late',
    'shipped'
);


ALTER TYPE public.order_status OWNER TO app;

--
-- Name: positive_amount; Type: DOMAIN; Schema: public; Owner: app
--

CREATE DOMAIN public.positive_amount AS numeric(12,2) NOT NULL
	CONSTRAINT positive_amount_check CHECK ((VALUE > (0)::numeric));


ALTER DOMAIN public.positive_amount OWNER TO app;

--
-- Name: price_range; Type: TYPE; Schema: public; Owner: app
--

CREATE TYPE public.price_range AS RANGE (
    subtype = numeric,
    multirange_type_name = public.price_multirange
);


ALTER TYPE public.price_range OWNER TO app;

--
-- Name: small_positive; Type: DOMAIN; Schema: public; Owner: app
--

CREATE DOMAIN public.small_positive AS public.positive_amount;


ALTER DOMAIN public.small_positive OWNER TO app;

--
-- Name: channel; Type: TYPE; Schema: sales; Owner: app
--

CREATE TYPE sales.channel AS ENUM (
    'web',
    'Shop; "outlet"'
);


ALTER TYPE sales.channel OWNER TO app;

--
-- Name: f(integer); Type: FUNCTION; Schema: public; Owner: app
--

CREATE FUNCTION public.f(a integer) RETURNS integer
    LANGUAGE plpgsql
    AS $$ begin -- ; '
 return a; end; $$;


ALTER FUNCTION public.f(a integer) OWNER TO app;

--
-- Name: g(integer); Type: FUNCTION; Schema: public; Owner: app
--

CREATE FUNCTION public.g(a integer) RETURNS integer
    LANGUAGE sql
    BEGIN ATOMIC
 SELECT
         CASE
             WHEN (a > 1) THEN 1
             ELSE 2
         END AS "case";
 SELECT a AS a;
END;


ALTER FUNCTION public.g(a integer) OWNER TO app;

--
-- Name: p(); Type: PROCEDURE; Schema: public; Owner: app
--

CREATE PROCEDURE public.p()
    LANGUAGE sql
    AS $$ select 1; $$;


ALTER PROCEDURE public.p() OWNER TO app;

--
-- Name: trg(); Type: FUNCTION; Schema: public; Owner: app
--

CREATE FUNCTION public.trg() RETURNS trigger
    LANGUAGE plpgsql
    AS $$ begin return new; end $$;


ALTER FUNCTION public.trg() OWNER TO app;

--
-- Name: mysum(integer); Type: AGGREGATE; Schema: public; Owner: app
--

CREATE AGGREGATE public.mysum(integer) (
    SFUNC = int4pl,
    STYPE = integer,
    INITCOND = '0'
);


ALTER AGGREGATE public.mysum(integer) OWNER TO app;

SET default_tablespace = '';

SET default_table_access_method = heap;

--
-- Name: Mixed "Case"; Type: TABLE; Schema: Odd Schema; Owner: app
--

CREATE TABLE "Odd Schema"."Mixed ""Case""" (
    "Id" integer NOT NULL,
    "a,b" text,
    "c)d" text NOT NULL
);


ALTER TABLE "Odd Schema"."Mixed ""Case""" OWNER TO app;

--
-- Name: base; Type: TABLE; Schema: public; Owner: app
--

CREATE TABLE public.base (
    a integer NOT NULL,
    b text
);


ALTER TABLE public.base OWNER TO app;

--
-- Name: customers; Type: TABLE; Schema: public; Owner: app
--

CREATE TABLE public.customers (
    id bigint NOT NULL,
    email public.email NOT NULL,
    name character varying(80) DEFAULT 'it''s; -- unknown'::character varying NOT NULL,
    "Display Name" text,
    "select" integer,
    nickname character(8),
    born date,
    balance numeric(12,2) DEFAULT 0.00 NOT NULL,
    credit public.small_positive,
    tags text[] DEFAULT '{}'::text[],
    grid integer[],
    scores real[],
    active boolean DEFAULT true NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    seen_at timestamp(3) without time zone,
    daily time(0) without time zone,
    daily_tz time with time zone,
    ratio double precision,
    ratio4 real,
    small smallint,
    ref uuid DEFAULT gen_random_uuid(),
    raw bytea,
    doc json,
    docb jsonb DEFAULT '{"a": [1, 2]}'::jsonb NOT NULL,
    ip inet,
    home public.address,
    span int4range,
    prices public.price_range,
    wait interval day to second(3),
    bits bit(3),
    vbits bit varying(5),
    onechar "char",
    o oid,
    n name,
    m money,
    x xml,
    tsv tsvector,
    full_name text GENERATED ALWAYS AS (upper((name)::text)) STORED,
    grade text DEFAULT 
CASE
    WHEN (1 = 1) THEN 'a'::text
    ELSE NULL::text
END NOT NULL,
    CONSTRAINT customers_balance_check CHECK ((balance >= (0)::numeric))
);
ALTER TABLE ONLY public.customers ALTER COLUMN name SET STATISTICS 500;
ALTER TABLE ONLY public.customers ALTER COLUMN docb SET STORAGE EXTERNAL;


ALTER TABLE public.customers OWNER TO app;

--
-- Name: customers_id_seq; Type: SEQUENCE; Schema: public; Owner: app
--

ALTER TABLE public.customers ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.customers_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);


--
-- Name: derived; Type: TABLE; Schema: public; Owner: app
--

CREATE TABLE public.derived (
    c integer
)
INHERITS (public.base);


ALTER TABLE public.derived OWNER TO app;

--
-- Name: events; Type: TABLE; Schema: public; Owner: app
--

CREATE TABLE public.events (
    id bigint NOT NULL,
    at timestamp with time zone NOT NULL,
    kind text
)
PARTITION BY RANGE (at);


ALTER TABLE public.events OWNER TO app;

--
-- Name: events_2026; Type: TABLE; Schema: public; Owner: app
--

CREATE TABLE public.events_2026 (
    id bigint NOT NULL,
    at timestamp with time zone NOT NULL,
    kind text
);


ALTER TABLE public.events_2026 OWNER TO app;

--
-- Name: events_rest; Type: TABLE; Schema: public; Owner: app
--

CREATE TABLE public.events_rest (
    id bigint NOT NULL,
    at timestamp with time zone NOT NULL,
    kind text
);


ALTER TABLE public.events_rest OWNER TO app;

--
-- Name: loose_seq; Type: SEQUENCE; Schema: public; Owner: app
--

CREATE SEQUENCE public.loose_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;


ALTER TABLE public.loose_seq OWNER TO app;

--
-- Name: orders; Type: TABLE; Schema: public; Owner: app
--

CREATE TABLE public.orders (
    id integer NOT NULL,
    customer_id bigint NOT NULL,
    status public.order_status DEFAULT 'draft'::public.order_status NOT NULL,
    history public.order_status[],
    total numeric(14,3),
    any_numeric numeric,
    channel sales.channel,
    placed_at timestamp with time zone
);

ALTER TABLE ONLY public.orders REPLICA IDENTITY FULL;


ALTER TABLE public.orders OWNER TO app;

--
-- Name: TABLE orders; Type: COMMENT; Schema: public; Owner: app
--

COMMENT ON TABLE public.orders IS 'orders; with '' quotes';


--
-- Name: COLUMN orders.total; Type: COMMENT; Schema: public; Owner: app
--

COMMENT ON COLUMN public.orders.total IS 'multi
line; '' comment';


--
-- Name: orders_id_seq; Type: SEQUENCE; Schema: public; Owner: app
--

CREATE SEQUENCE public.orders_id_seq
    AS integer
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;


ALTER TABLE public.orders_id_seq OWNER TO app;

--
-- Name: orders_id_seq; Type: SEQUENCE OWNED BY; Schema: public; Owner: app
--

ALTER SEQUENCE public.orders_id_seq OWNED BY public.orders.id;


--
-- Name: paid; Type: VIEW; Schema: public; Owner: app
--

CREATE VIEW public.paid AS
 SELECT orders.id,
    orders.total
   FROM public.orders
  WHERE (orders.status = 'paid'::public.order_status);


ALTER TABLE public.paid OWNER TO app;

--
-- Name: scratch; Type: TABLE; Schema: public; Owner: app
--

CREATE UNLOGGED TABLE public.scratch (
    k text NOT NULL,
    v text
);


ALTER TABLE public.scratch OWNER TO app;

--
-- Name: totals; Type: MATERIALIZED VIEW; Schema: public; Owner: app
--

CREATE MATERIALIZED VIEW public.totals AS
 SELECT sum(orders.total) AS t
   FROM public.orders
  WITH NO DATA;


ALTER TABLE public.totals OWNER TO app;

--
-- Name: order_lines; Type: TABLE; Schema: sales; Owner: app
--

CREATE TABLE sales.order_lines (
    order_id integer NOT NULL,
    line_no smallint NOT NULL,
    sku text NOT NULL COLLATE pg_catalog."C",
    amount public.positive_amount,
    CONSTRAINT sku_len CHECK (((length(sku) < 20) AND (sku <> ');'::text)))
);


ALTER TABLE sales.order_lines OWNER TO app;

--
-- Name: shipments; Type: TABLE; Schema: sales; Owner: app
--

CREATE TABLE sales.shipments (
    order_id integer,
    line_no smallint,
    n integer DEFAULT nextval('public.loose_seq'::regclass),
    during tstzrange
)
WITH (fillfactor='70');


ALTER TABLE sales.shipments OWNER TO app;

--
-- Name: events_2026; Type: TABLE ATTACH; Schema: public; Owner: app
--

ALTER TABLE ONLY public.events ATTACH PARTITION public.events_2026 FOR VALUES FROM ('2026-01-01 00:00:00+00') TO ('2027-01-01 00:00:00+00');


--
-- Name: events_rest; Type: TABLE ATTACH; Schema: public; Owner: app
--

ALTER TABLE ONLY public.events ATTACH PARTITION public.events_rest DEFAULT;


--
-- Name: orders id; Type: DEFAULT; Schema: public; Owner: app
--

ALTER TABLE ONLY public.orders ALTER COLUMN id SET DEFAULT nextval('public.orders_id_seq'::regclass);


--
-- Name: Mixed "Case" Mixed "Case"_pkey; Type: CONSTRAINT; Schema: Odd Schema; Owner: app
--

ALTER TABLE ONLY "Odd Schema"."Mixed ""Case"""
    ADD CONSTRAINT "Mixed ""Case""_pkey" PRIMARY KEY ("Id");


--
-- Name: customers customers_email_key; Type: CONSTRAINT; Schema: public; Owner: app
--

ALTER TABLE ONLY public.customers
    ADD CONSTRAINT customers_email_key UNIQUE (email);


--
-- Name: customers customers_pkey; Type: CONSTRAINT; Schema: public; Owner: app
--

ALTER TABLE ONLY public.customers
    ADD CONSTRAINT customers_pkey PRIMARY KEY (id);


--
-- Name: events events_pkey; Type: CONSTRAINT; Schema: public; Owner: app
--

ALTER TABLE ONLY public.events
    ADD CONSTRAINT events_pkey PRIMARY KEY (id, at);


--
-- Name: events_2026 events_2026_pkey; Type: CONSTRAINT; Schema: public; Owner: app
--

ALTER TABLE ONLY public.events_2026
    ADD CONSTRAINT events_2026_pkey PRIMARY KEY (id, at);


--
-- Name: events_rest events_rest_pkey; Type: CONSTRAINT; Schema: public; Owner: app
--

ALTER TABLE ONLY public.events_rest
    ADD CONSTRAINT events_rest_pkey PRIMARY KEY (id, at);


--
-- Name: orders orders_pkey; Type: CONSTRAINT; Schema: public; Owner: app
--

ALTER TABLE ONLY public.orders
    ADD CONSTRAINT orders_pkey PRIMARY KEY (id);


--
-- Name: scratch scratch_pkey; Type: CONSTRAINT; Schema: public; Owner: app
--

ALTER TABLE ONLY public.scratch
    ADD CONSTRAINT scratch_pkey PRIMARY KEY (k);


--
-- Name: order_lines ol_u; Type: CONSTRAINT; Schema: sales; Owner: app
--

ALTER TABLE ONLY sales.order_lines
    ADD CONSTRAINT ol_u UNIQUE (order_id, line_no);


--
-- Name: order_lines order_lines_pkey; Type: CONSTRAINT; Schema: sales; Owner: app
--

ALTER TABLE ONLY sales.order_lines
    ADD CONSTRAINT order_lines_pkey PRIMARY KEY (line_no, order_id);


--
-- Name: shipments shipments_during_excl; Type: CONSTRAINT; Schema: sales; Owner: app
--

ALTER TABLE ONLY sales.shipments
    ADD CONSTRAINT shipments_during_excl EXCLUDE USING gist (during WITH &&);


--
-- Name: orders_status; Type: INDEX; Schema: public; Owner: app
--

CREATE INDEX orders_status ON public.orders USING btree (status) WHERE (status <> 'draft'::public.order_status);


--
-- Name: orders_u; Type: INDEX; Schema: public; Owner: app
--

CREATE UNIQUE INDEX orders_u ON public.orders USING btree (id, status);


--
-- Name: events_2026_pkey; Type: INDEX ATTACH; Schema: public; Owner: app
--

ALTER INDEX public.events_pkey ATTACH PARTITION public.events_2026_pkey;


--
-- Name: events_rest_pkey; Type: INDEX ATTACH; Schema: public; Owner: app
--

ALTER INDEX public.events_pkey ATTACH PARTITION public.events_rest_pkey;


--
-- Name: st; Type: STATISTICS; Schema: public; Owner: app
--

CREATE STATISTICS public.st (dependencies) ON id, total FROM public.orders;


ALTER STATISTICS public.st OWNER TO app;

--
-- Name: scratch r; Type: RULE; Schema: public; Owner: app
--

CREATE RULE r AS
    ON INSERT TO public.scratch DO ( SELECT 1 AS "?column?";
 SELECT 2 AS "?column?";
);


--
-- Name: orders t; Type: TRIGGER; Schema: public; Owner: app
--

CREATE TRIGGER t BEFORE INSERT ON public.orders FOR EACH ROW EXECUTE FUNCTION public.trg();


--
-- Name: orders orders_customer_id_fkey; Type: FK CONSTRAINT; Schema: public; Owner: app
--

ALTER TABLE ONLY public.orders
    ADD CONSTRAINT orders_customer_id_fkey FOREIGN KEY (customer_id) REFERENCES public.customers(id) ON UPDATE SET NULL ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED;


--
-- Name: order_lines order_lines_order_id_fkey; Type: FK CONSTRAINT; Schema: sales; Owner: app
--

ALTER TABLE ONLY sales.order_lines
    ADD CONSTRAINT order_lines_order_id_fkey FOREIGN KEY (order_id) REFERENCES public.orders(id);


--
-- Name: shipments shipments_line_fk; Type: FK CONSTRAINT; Schema: sales; Owner: app
--

ALTER TABLE ONLY sales.shipments
    ADD CONSTRAINT shipments_line_fk FOREIGN KEY (order_id, line_no) REFERENCES sales.order_lines(order_id, line_no) MATCH FULL;


--
-- Name: orders; Type: ROW SECURITY; Schema: public; Owner: app
--

ALTER TABLE public.orders ENABLE ROW LEVEL SECURITY;

--
-- Name: orders pol; Type: POLICY; Schema: public; Owner: app
--

CREATE POLICY pol ON public.orders USING (true);


--
-- Name: pub; Type: PUBLICATION; Schema: -; Owner: app
--

CREATE PUBLICATION pub WITH (publish = 'insert, update, delete, truncate');


ALTER PUBLICATION pub OWNER TO app;

--
-- Name: pub orders; Type: PUBLICATION TABLE; Schema: public; Owner: app
--

ALTER PUBLICATION pub ADD TABLE ONLY public.orders;


--
-- Name: TABLE base; Type: ACL; Schema: public; Owner: app
--

GRANT SELECT ON TABLE public.base TO reader;


--
-- Name: TABLE customers; Type: ACL; Schema: public; Owner: app
--

GRANT SELECT ON TABLE public.customers TO reader;


--
-- Name: TABLE derived; Type: ACL; Schema: public; Owner: app
--

GRANT SELECT ON TABLE public.derived TO reader;


--
-- Name: TABLE events; Type: ACL; Schema: public; Owner: app
--

GRANT SELECT ON TABLE public.events TO reader;


--
-- Name: TABLE events_2026; Type: ACL; Schema: public; Owner: app
--

GRANT SELECT ON TABLE public.events_2026 TO reader;


--
-- Name: TABLE events_rest; Type: ACL; Schema: public; Owner: app
--

GRANT SELECT ON TABLE public.events_rest TO reader;


--
-- Name: TABLE orders; Type: ACL; Schema: public; Owner: app
--

GRANT SELECT ON TABLE public.orders TO reader;


--
-- Name: TABLE paid; Type: ACL; Schema: public; Owner: app
--

GRANT SELECT ON TABLE public.paid TO reader;


--
-- Name: TABLE scratch; Type: ACL; Schema: public; Owner: app
--

GRANT SELECT ON TABLE public.scratch TO reader;


--
-- Name: TABLE totals; Type: ACL; Schema: public; Owner: app
--

GRANT SELECT ON TABLE public.totals TO reader;


--
-- Name: DEFAULT PRIVILEGES FOR TABLES; Type: DEFAULT ACL; Schema: public; Owner: app
--

ALTER DEFAULT PRIVILEGES FOR ROLE app IN SCHEMA public GRANT SELECT ON TABLES  TO reader;


--
-- PostgreSQL database dump complete
--

\unrestrict Xk2mQ7pLr9sTfVb3WnYc

