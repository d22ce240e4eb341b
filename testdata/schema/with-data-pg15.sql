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

SET default_tablespace = '';

SET default_table_access_method = heap;

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
-- Name: scratch; Type: TABLE; Schema: public; Owner: app
--

CREATE UNLOGGED TABLE public.scratch (
    k text NOT NULL,
    v text
);


ALTER TABLE public.scratch OWNER TO app;

--
-- Name: orders id; Type: DEFAULT; Schema: public; Owner: app
--

ALTER TABLE ONLY public.orders ALTER COLUMN id SET DEFAULT nextval('public.orders_id_seq'::regclass);


--
-- Data for Name: orders; Type: TABLE DATA; Schema: public; Owner: app
--

COPY public.orders (id, customer_id, status, history, total, any_numeric, channel, placed_at) FROM stdin;
\.


--
-- Data for Name: scratch; Type: TABLE DATA; Schema: public; Owner: app
--

COPY public.scratch (k, v) FROM stdin;
a;b	tab\there
\\.	\N
\.


--
-- Name: orders_id_seq; Type: SEQUENCE SET; Schema: public; Owner: app
--

SELECT pg_catalog.setval('public.orders_id_seq', 1, false);


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
-- Name: orders_status; Type: INDEX; Schema: public; Owner: app
--

CREATE INDEX orders_status ON public.orders USING btree (status) WHERE (status <> 'draft'::public.order_status);


--
-- Name: orders_u; Type: INDEX; Schema: public; Owner: app
--

CREATE UNIQUE INDEX orders_u ON public.orders USING btree (id, status);


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
-- Name: orders; Type: ROW SECURITY; Schema: public; Owner: app
--

ALTER TABLE public.orders ENABLE ROW LEVEL SECURITY;

--
-- Name: orders pol; Type: POLICY; Schema: public; Owner: app
--

CREATE POLICY pol ON public.orders USING (true);


--
-- Name: TABLE orders; Type: ACL; Schema: public; Owner: app
--

GRANT SELECT ON TABLE public.orders TO reader;


--
-- Name: TABLE scratch; Type: ACL; Schema: public; Owner: app
--

GRANT SELECT ON TABLE public.scratch TO reader;


--
-- PostgreSQL database dump complete
--

\unrestrict Xk2mQ7pLr9sTfVb3WnYc

