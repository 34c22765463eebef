-- Fills a database with what the reading of rows is measured on: 200 tables of four kinds and of very different sizes,
-- 3.5 million rows, about 550 MB of COPY text, 50 large objects of 1 KB to 1 MB. It is the same in every run.
--
-- Half of the values come from checksums and compress badly, as keys do; half is text of few words, as people write.
\set ON_ERROR_STOP on
set client_encoding = 'UTF8';
set timezone = 'UTC';
set synchronous_commit = off;
set jit = off;
set max_parallel_workers_per_gather = 0;
begin;

create function pg_temp.pick(n bigint, seed integer, bound integer) returns integer immutable language sql as
  $$ select (abs(hashint8extended(n, seed) % bound))::integer $$;
create function pg_temp.key(kind text, n bigint) returns uuid immutable language sql as $$ select md5(kind || n)::uuid $$;
create function pg_temp.moment(n bigint, seed integer) returns timestamptz immutable language sql as
  $$ select timestamptz '2023-01-01 00:00:00+00' + n * interval '37 seconds'
       + pg_temp.pick(n, seed, 36000000) * interval '1 microsecond' $$;

create temporary table phrase (n integer primary key, text text);
insert into phrase
  select n, (select string_agg(words[1 + pg_temp.pick(n, place, array_length(words, 1))], ' ' order by place)
             from generate_series(1, 4 + pg_temp.pick(n, 0, 5)) place)
  from generate_series(0, 4095) n,
    (select '{account,address,agent,amount,answer,balance,bill,book,branch,café,call,cancel,card,change,charge,check,claim,
      close,confirm,contract,customer,date,delay,delivery,deposit,device,discount,email,error,fee,flight,für,help,hotel,
      identity,insurance,invoice,language,limit,loan,lost,message,number,open,order,password,pay,phone,policy,premium,
      price,problem,product,quote,rate,refund,renew,report,reserve,return,service,statement,status,ticket,transfer,
      update}'::text[] words) list;

-- Shapes of tables: what follows the name in CREATE TABLE, the share of all rows, the query that fills it.
create temporary table kind (name text, columns text, rows integer, query text);
insert into kind values
  ('event', '(event_id bigint primary key, tenant_id uuid not null, kind text not null, actor text,
      created_at timestamptz not null, payload jsonb not null)', 733000,
   $$ select g, pg_temp.key('tenant', g %% 31), (array['created', 'updated', 'deleted', 'opened', 'closed'])[1 + g %% 5],
        case when g %% 4 > 0 then 'user-' || pg_temp.pick(g, 1, 20000) end, pg_temp.moment(g, 2),
        jsonb_build_object('id', pg_temp.pick(g, 3, 2000000000), 'source', (array['web', 'api', 'batch'])[1 + g %% 3],
          'trace', to_hex(hashint8extended(g, 6)), 'text', p.text,
          'score', round(pg_temp.pick(g, 4, 10000) / 10000.0, 4), 'seen', g %% 2 = 0)
      from generate_series(1, %s) g join phrase p on p.n = pg_temp.pick(g, 5, 4096) $$),
  ('account', '(account_id uuid primary key, tenant_id uuid not null, name text not null, email text not null,
      balance numeric(12, 2) not null, active boolean not null, plan text not null, created_at timestamptz not null,
      updated_at timestamptz, note text)', 733000,
   $$ select pg_temp.key('account', g), pg_temp.key('tenant', g %% 31), initcap(p.text), 'u' || g || '@example.com',
        pg_temp.pick(g, 1, 100000000) / 100.0, g %% 9 > 0, (array['free', 'team', 'enterprise'])[1 + g %% 3],
        pg_temp.moment(g, 2), case when g %% 3 = 0 then pg_temp.moment(g, 3) end, case when g %% 5 = 0 then p.text else '' end
      from generate_series(1, %s) g join phrase p on p.n = pg_temp.pick(g, 5, 4096) $$),
  ('measurement', '(measurement_id bigint primary key, device_id integer not null, at timestamptz not null,
      temperature double precision, pressure double precision, humidity real, status smallint not null,
      retries integer not null)', 1301000,
   $$ select g, pg_temp.pick(g, 1, 500), pg_temp.moment(g, 2), pg_temp.pick(g, 3, 40000) / 1000.0,
        case when g %% 7 > 0 then 900 + pg_temp.pick(g, 4, 20000) / 100.0 end, pg_temp.pick(g, 5, 1000) / 10.0, g %% 3, 0
      from generate_series(1, %s) g $$),
  ('message', '(message_id bigint primary key, tenant_id uuid not null, author_id integer, channel text not null,
      body text not null, tags text[] not null, created_at timestamp not null)', 733000,
   $$ select g, pg_temp.key('tenant', g %% 31), pg_temp.pick(g, 1, 20000), (array['mail', 'chat', 'phone'])[1 + g %% 3],
        concat(p.text, case when g %% 8 = 0 then E'\n\t' else ': ' end, q.text, '.'), array[p.n %% 50, q.n %% 50]::text[],
        pg_temp.moment(g, 2)::timestamp
      from generate_series(1, %s) g join phrase p on p.n = pg_temp.pick(g, 5, 4096)
        join phrase q on q.n = pg_temp.pick(g, 6, 4096) $$);

-- The first table of each kind has an eighth of its rows, the fiftieth a hundred and twentieth.
select format('create table %I %s', format('%s_%s', name, n), columns), format('insert into %I %s',
    format('%s_%s', name, n), format(query, round(rows * power(n, -0.7) / weights)))
  from kind, generate_series(1, 50) n, (select sum(power(n, -0.7)) weights from generate_series(1, 50) n) sum
  order by n, name \gexec

select lo_from_bytea(0, string_agg(case when line % 3 = 0 then decode(md5(concat(number, line)), 'hex')
    else convert_to(p.text, 'UTF8') end, '\x0a' order by line))
  from generate_series(1, 50) number, generate_series(0, 15 * number * number) line
    join phrase p on p.n = pg_temp.pick(line, 7, 4096)
  group by number order by number \g /dev/null
commit;
