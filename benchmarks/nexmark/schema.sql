CREATE SCHEMA nexmark;

CREATE TABLE nexmark.person (
    id bigint PRIMARY KEY,
    name text,
    email_address text,
    credit_card text,
    city text,
    state text,
    date_time timestamp NOT NULL,
    extra text
);

CREATE TABLE nexmark.auction (
    id bigint PRIMARY KEY,
    item_name text,
    description text,
    initial_bid bigint,
    reserve bigint,
    date_time timestamp NOT NULL,
    expires timestamp NOT NULL,
    seller bigint NOT NULL,
    category bigint NOT NULL,
    extra text
);

CREATE TABLE nexmark.bid (
    id bigint PRIMARY KEY,
    auction bigint NOT NULL,
    bidder bigint NOT NULL,
    price bigint NOT NULL,
    channel text,
    url text,
    date_time timestamp NOT NULL,
    extra text
);

CREATE INDEX auction_seller ON nexmark.auction (seller);
CREATE INDEX auction_date_time ON nexmark.auction (date_time);
CREATE INDEX person_date_time ON nexmark.person (date_time);
CREATE INDEX bid_auction ON nexmark.bid (auction);
CREATE INDEX bid_bidder ON nexmark.bid (bidder);
CREATE INDEX bid_date_time ON nexmark.bid (date_time);

-- A number from 0 to n - 1, the same for the same event and column.
CREATE FUNCTION nexmark.draw(event bigint, salt bigint, n bigint) RETURNS bigint
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN (hashint8extended(event, salt) & 9223372036854775807) % n;

-- Of 50 events one is a person, three are auctions, 46 are bids; a hundred of them are a second.
CREATE FUNCTION nexmark.moment(event bigint) RETURNS timestamp
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN timestamp '2015-07-15' + event * interval '10 milliseconds';

CREATE FUNCTION nexmark.persons(first bigint, after bigint) RETURNS SETOF nexmark.person
LANGUAGE sql STABLE AS $$
SELECT n / 50, 'person ' || nexmark.draw(n, 1, 500), 'p' || n || '@example.org',
    lpad(nexmark.draw(n, 2, 10000)::text, 16, '4'),
    ('{Phoenix,Palo Alto,Portland,Boise,Cheyenne}'::text[])[1 + nexmark.draw(n, 3, 5)],
    ('{AZ,CA,ID,OR,WA,WY}'::text[])[1 + nexmark.draw(n, 4, 6)],
    nexmark.moment(n), 'x'
FROM generate_series(first, after - 1) AS n WHERE n % 50 = 0
$$;

-- Sellers and bidders are mostly among the last persons.
CREATE FUNCTION nexmark.auctions(first bigint, after bigint) RETURNS SETOF nexmark.auction
LANGUAGE sql STABLE AS $$
SELECT n / 50 * 3 + n % 50 - 1, 'item ' || nexmark.draw(n, 5, 200), 'an item',
    1 + nexmark.draw(n, 6, 1000), 500 + nexmark.draw(n, 7, 2000),
    nexmark.moment(n), nexmark.moment(n) + nexmark.draw(n, 8, 30000) * interval '1 millisecond',
    greatest(0, n / 50 - nexmark.draw(n, 9, 40)), 10 + nexmark.draw(n, 10, 5), 'x'
FROM generate_series(first, after - 1) AS n WHERE n % 50 BETWEEN 1 AND 3
$$;

CREATE FUNCTION nexmark.bids(first bigint, after bigint) RETURNS SETOF nexmark.bid
LANGUAGE sql STABLE AS $$
SELECT n, greatest(0, n / 50 * 3 - nexmark.draw(n, 11, CASE nexmark.draw(n, 12, 2)
        WHEN 0 THEN 5 ELSE 100 END)),
    greatest(0, n / 50 - nexmark.draw(n, 13, 60)),
    (10 ^ (2 + nexmark.draw(n, 14, 500) / 100.0))::bigint,
    ('{Google,Facebook,Baidu,Apple,channel}'::text[])[1 + nexmark.draw(n, 15, 5)],
    'https://example.org/item?id=' || nexmark.draw(n, 16, 999), nexmark.moment(n), 'x'
FROM generate_series(first, after - 1) AS n WHERE n % 50 > 3
$$;
