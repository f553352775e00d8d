-- What was shipped up to 90 days before 1 December 1998: quantities, prices and discounts.
-- tally: tpch.q01
SELECT
    l.l_returnflag,
    l.l_linestatus,
    sum(l.l_quantity) AS quantity,
    sum(l.l_extendedprice) AS base_price,
    sum(l.l_extendedprice * (1 - l.l_discount)) AS discounted_price,
    sum(l.l_extendedprice * (1 - l.l_discount) * (1 + l.l_tax)) AS charge,
    avg(l.l_quantity) AS average_quantity,
    avg(l.l_extendedprice) AS average_price,
    avg(l.l_discount) AS average_discount,
    count(*) AS lines
FROM tpch.lineitem AS l
WHERE l.l_shipdate <= date '1998-12-01' - interval '90 days'
GROUP BY l.l_returnflag, l.l_linestatus
ORDER BY 1, 2
