-- What discounts of five to seven percent on small quantities cost in 1994.
-- tally: tpch.q06
SELECT sum(l.l_extendedprice * l.l_discount) AS revenue
FROM tpch.lineitem AS l
WHERE l.l_shipdate >= date '1994-01-01'
    AND l.l_shipdate < date '1994-01-01' + interval '1 year'
    AND l.l_discount BETWEEN 0.06 - 0.01 AND 0.06 + 0.01
    AND l.l_quantity < 24
