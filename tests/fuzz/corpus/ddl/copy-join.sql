INSERT INTO %{shadow_table}(foo, rental_id, tenant_id)
SELECT a.foo,a.rental_id,r.tenant_id AS tenant_id
FROM ONLY books a
LEFT OUTER JOIN rentals r
ON a.rental_id = r.id